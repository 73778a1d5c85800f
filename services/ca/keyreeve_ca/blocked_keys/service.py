"""Block keys for good, and unblock them when two persons agree."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from keyreeve import errors
from keyreeve_ca.blocked_keys.ports import BlockedKey, BlockedKeys
from keyreeve_ca.operators.dual_control import HasPeople, is_approved
from keyreeve_ca.operators.ports import Actor


class Blocking(HasPeople, Protocol):
    """The part of a transaction that the use cases need."""

    @property
    def blocked_keys(self) -> BlockedKeys: ...
    def bump_config(self) -> int: ...


@dataclass(frozen=True)
class KeyBlocking:
    """The use cases. Every method runs in the caller's transaction."""

    now: Callable[[], int]
    refuse_unknown_person: Callable[[Actor, int], None] = lambda _actor, _now: None
    """Raises `SecondPersonRequired` for one who does not count for dual control yet."""

    def block(self, tx: Blocking, actor: Actor, spki_sha256: bytes, reason: str) -> BlockedKey:
        """Block a key, or return how it was blocked before. It withdraws an approval to unblock it."""
        known = tx.blocked_keys.find(spki_sha256)
        if known is not None:
            kept = replace(known, approved_at=None, approved_by="", approver="")
            tx.blocked_keys.put(kept)
            return kept
        made = BlockedKey(spki_sha256, reason, self.now(), actor.identity)
        tx.blocked_keys.add({spki_sha256: made})
        tx.bump_config()
        return made

    def unblock(self, tx: Blocking, actor: Actor, spki_sha256: bytes) -> BlockedKey:
        """Approve unblocking a key, or unblock it as the second person. Raises `KeyNotBlocked`, `SecondPersonRequired`."""
        known, now = tx.blocked_keys.find(spki_sha256), self.now()
        self.refuse_unknown_person(actor, now)
        if known is None:
            raise errors.KeyNotBlocked(
                f"the key {spki_sha256.hex()} is not blocked", metadata={"spki_sha256": spki_sha256.hex()}
            )
        if not is_approved(tx, known.approver, known.approved_by, known.approved_at, now):
            approved = replace(known, approved_at=now, approved_by=actor.identity, approver=actor.person)
            tx.blocked_keys.put(approved)
            return approved
        if known.approver == actor.person:
            raise errors.SecondPersonRequired(
                f"{known.approved_by} has approved already; another person has to agree",
                metadata={"approver": known.approved_by},
            )
        tx.blocked_keys.remove(spki_sha256)
        tx.bump_config()
        return known
