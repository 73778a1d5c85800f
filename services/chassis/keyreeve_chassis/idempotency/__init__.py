"""Idempotent mutations: a repeated request gets the same answer for 24 hours."""
