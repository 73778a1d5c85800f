"""Tickets of the CA service: on whose behalf a gateway calls."""
