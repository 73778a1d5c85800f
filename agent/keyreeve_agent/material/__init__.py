"""What a member's TLS stacks load: certificate, key, bundle and CRLs that always match."""
