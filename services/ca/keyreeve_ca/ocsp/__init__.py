"""The OCSP responder (RFC 6960)."""
