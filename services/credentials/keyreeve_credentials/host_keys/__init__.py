"""The SSH host key of the gateways."""
