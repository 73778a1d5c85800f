"""The signing path: from a request to a certificate in the ledger."""
