"""Idempotent mutations: the same request is answered the same way for 24 hours."""
