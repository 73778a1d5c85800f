"""Migrations of the credentials service's schema."""
