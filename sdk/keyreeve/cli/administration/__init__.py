"""Commands that administer a control plane over its RPCs."""
