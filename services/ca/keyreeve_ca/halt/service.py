"""The halt switch: stop issuance, and resume it (docs/halt.md).

The commit gate reads the same row under its lock, so once a halt is committed nothing requested over the network enters
the ledger. Requests of origin `InProcess` continue: recovery must not depend on what has been halted.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Protocol

from keyreeve import errors
from keyreeve_ca.operators.dual_control import HasPeople, is_approved
from keyreeve_ca.operators.ports import Actor

_REASON = re.compile(r"[^\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]{1,500}\Z")


@dataclass(frozen=True, slots=True)
class HaltState:
    """The one row of the switch. Times are seconds since 1970; None and empty where nothing has happened."""

    halted: bool = False
    halted_at: int | None = None
    halted_by: str = ""
    halt_reason: str = ""
    approved_at: int | None = None
    approved_by: str = ""
    approver: str = ""
    """The person behind `approved_by`."""
    resumed_at: int | None = None
    resumed_by: str = ""
    resume_reason: str = ""


class Halts(Protocol):
    """The switch in one transaction."""

    def state(self) -> HaltState:
        """Read the row."""
        ...

    def put(self, state: HaltState) -> None:
        """Replace the row; it is locked for update, against the commit gate's share lock."""
        ...


class Halting(HasPeople, Protocol):
    """The part of a transaction that the use cases need."""

    @property
    def halt(self) -> Halts: ...
    def bump_config(self) -> int: ...


@dataclass(frozen=True)
class HaltSwitch:
    """The use cases behind IssuanceService's mutations."""

    now: Callable[[], int]
    resume_needs_two: bool
    refuse_unknown_person: Callable[[Actor, int], None] = lambda _actor, _now: None
    """Raises `SecondPersonRequired` for one who does not count for dual control yet."""

    def halt(self, tx: Halting, actor: Actor, reason: str) -> HaltState:
        """Stop issuance. A repeated halt withdraws an approval to resume. Raises `FieldInvalid`."""
        _check_reason(reason)
        state = tx.halt.state()
        if state.halted:
            return _put(tx, replace(state, approved_at=None, approved_by="", approver=""))
        return _put(
            tx,
            HaltState(halted=True, halted_at=self.now(), halted_by=actor.identity, halt_reason=reason),
        )

    def resume(self, tx: Halting, actor: Actor, reason: str, *, alone: bool = False) -> HaltState:
        """Resume issuance, or approve it where two operators are needed; `alone` skips the second.

        Raises `IssuanceNotHalted`, `SecondPersonRequired`, `FieldInvalid`.
        """
        _check_reason(reason)
        state, now = tx.halt.state(), self.now()
        if not state.halted:
            raise errors.IssuanceNotHalted("issuance is not halted")
        if self.resume_needs_two and not alone:
            self.refuse_unknown_person(actor, now)
            if not is_approved(tx, state.approver, state.approved_by, state.approved_at, now):
                return _put(tx, replace(state, approved_at=now, approved_by=actor.identity, approver=actor.person))
            if state.approver == actor.person:
                raise errors.SecondPersonRequired(
                    f"{state.approved_by} has approved already; another person has to agree",
                    metadata={"approver": state.approved_by},
                )
        return _put(tx, replace(state, halted=False, resumed_at=now, resumed_by=actor.identity, resume_reason=reason))


def refuse_when_halted(tx: Halting) -> None:
    """Raise `IssuanceHalted` unless issuance is on; in a write transaction this holds until its end."""
    state = tx.halt.state()
    if state.halted:
        assert state.halted_at is not None, "a halt has a time"
        raise issuance_halted(state.halted_at)


def issuance_halted(since: int) -> errors.KeyreeveError:
    """The refusal of a certificate request while halted. It does not say why: that is for operators."""
    when = datetime.fromtimestamp(since, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return errors.IssuanceHalted(f"issuance has been halted since {when}", metadata={"halted_since": when})


def _put(tx: Halting, state: HaltState) -> HaltState:
    tx.halt.put(state)
    tx.bump_config()
    return state


def _check_reason(reason: str) -> None:
    if not _REASON.match(reason) or not reason.strip():
        raise errors.FieldInvalid(
            "a reason is required", violations=[errors.Violation("reason", "1-500 printable characters, not all blank")]
        )
