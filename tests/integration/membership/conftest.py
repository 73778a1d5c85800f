"""Fixtures: the membership service in this process."""

from support.membership import membership, membership_url

__all__ = ["membership", "membership_url"]
