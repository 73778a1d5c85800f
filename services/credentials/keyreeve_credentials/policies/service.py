"""Policies: apply, list, simulate; and the copy that decides, in memory."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from keyreeve import errors
from keyreeve_chassis.database.ports import Store
from keyreeve_credentials.policies.ports import PastRead, PastReads, PolicyTransaction
from keyreeve_credentials.policies.rules import (
    Access,
    Decision,
    Policy,
    check_policy,
    decide,
    in_force,
)

Alarm = Callable[[str, str], None]


@dataclass(frozen=True, slots=True)
class Simulation:
    """How past reads would end."""

    examined: int
    changed: tuple[PastRead, ...]
    """The reads that would end in the other way."""


@dataclass(frozen=True)
class Policies:
    """The use cases."""

    now: Callable[[], int]
    alarm: Alarm

    def present(self, tx: PolicyTransaction) -> tuple[Policy, ...]:
        """The policies in force. Raises `PolicyDamaged`, with an alarm, when a row is not as it was written."""
        try:
            applied = tx.policies.present()
        except errors.PolicyDamaged as damaged:
            self.alarm("policies", damaged.message)
            raise
        return in_force(applied)

    def apply(self, tx: PolicyTransaction, wanted: Policy, by: str) -> Policy:
        """Store a new version. Raises `FieldInvalid`, `PolicyVersionStale`, `PolicyDamaged`."""
        check_policy(wanted)
        known = next((one for one in self.present(tx) if one.name == wanted.name), None)
        version = 0 if known is None else known.version
        if wanted.version not in {0, version}:
            raise errors.PolicyVersionStale(
                f"policies/{wanted.name} is at version {version}", metadata={"version": str(version)}
            )
        if known is not None and known.rules == wanted.rules:
            return known
        made = Policy(wanted.name, version + 1, wanted.rules, self.now(), by)
        tx.policies.add(made)
        return made

    async def simulate(self, store: Store[Any], reads: PastReads, wanted: Policy, limit: int) -> Simulation:
        """Evaluate the last reads with another policy. Raises `FieldInvalid`, `PolicyDamaged`."""
        check_policy(wanted)
        present = await store.read(self.present)
        others = [one for one in present if one.name != wanted.name]
        past = await reads.last(limit)
        rules = [*others, wanted]
        changed = tuple(
            read for read in past if all(decide(rules, one).allowed for one in read.accesses) != read.allowed
        )
        return Simulation(len(past), changed)


class PolicyBook:
    """The policies in force, in memory; `refresh` reads them. Before the first time, and while damaged, all is denied."""

    def __init__(self, store: Store[Any], policies: Policies) -> None:
        self._store = store
        self._policies = policies
        self._present: tuple[Policy, ...] | None = None
        self._why = "the policies have not been read yet"

    def decide(self, access: Access) -> Decision:
        """Decide an access. Raises `PolicyDamaged` while there are no policies to decide by."""
        if self._present is None:
            raise errors.PolicyDamaged(self._why)
        return decide(self._present, access)

    async def refresh(self) -> None:
        """Read the policies."""
        try:
            self._present = await self._store.read(self._policies.present)
        except errors.PolicyDamaged as damaged:
            self._present, self._why = None, damaged.message
