"""Alembic's history of the CA's schema."""
