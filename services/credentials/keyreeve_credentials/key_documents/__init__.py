"""Keys, requests, certificates and bundles as bytes: made, read, compared. No I/O."""
