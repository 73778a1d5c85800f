"""The halt switch, which stops issuance everywhere."""
