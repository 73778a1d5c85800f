"""Private keys, requests, certificates and bundles of a server, and what can be done with them."""
