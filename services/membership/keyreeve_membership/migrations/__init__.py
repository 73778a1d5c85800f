"""Migrations of the membership service's schema."""
