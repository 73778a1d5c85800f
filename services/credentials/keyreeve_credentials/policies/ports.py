"""Policies as the use cases see them: the records, and what is known of callers and of past reads."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from keyreeve_credentials.policies.rules import Access, Policy

POLICIES = "policies"
"""Topic that a transaction touches when it changes a policy (`keyreeve_chassis.changes`)."""


class PolicyRecords(Protocol):
    """The records of one transaction."""

    def present(self) -> Sequence[Policy]:
        """The present version of every policy, in order of their names."""
        ...

    def add(self, policy: Policy) -> None:
        """Store a new version."""
        ...


class PolicyTransaction(Protocol):
    """A transaction that holds policies."""

    @property
    def policies(self) -> PolicyRecords: ...


@dataclass(frozen=True, slots=True)
class PastRead:
    """A read of a secret, as the audit log has it; the time in milliseconds since 1970."""

    caller: str
    """The whole SPIFFE ID."""
    accesses: Sequence[Access]
    """That of the secret first, then what had to be allowed before it."""
    allowed: bool
    read_at: int

    @property
    def access(self) -> Access:
        """The access to the secret."""
        return self.accesses[0]


class PastReads(Protocol):
    """The audit log's reads of secrets."""

    async def last(self, limit: int) -> Sequence[PastRead]:
        """The last ones, the newest first."""
        ...
