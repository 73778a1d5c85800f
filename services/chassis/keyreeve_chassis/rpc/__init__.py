"""Listeners: the mutual-TLS server, the enrollment listener, health, reflection."""
