"""The agent and the control plane: reports, bundles, certificates, acknowledgements."""
