"""Notifications of changes: followers of the database read when something has changed, not again and again."""
