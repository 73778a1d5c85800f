"""Structural changes of arrays: join, detach, dissolve, clean; durable and all-or-nothing."""
