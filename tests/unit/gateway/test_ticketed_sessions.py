"""A session's ticket is renewed before it expires, and its end is noticed."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from keyreeve import errors
from keyreeve.session_values import CertificateProof, OpenedSession, OperatorSession, SessionMethod, Ticket
from keyreeve_gateway.sessions.ticketed import TicketedSessions

BEGAN = datetime(2031, 5, 4, 12, tzinfo=UTC)
PROOF = CertificateProof(b"certificate", bytes(32), 0, b"signature")
SESSION = OperatorSession(
    "sessions/one",
    "spiffe://example.test/operators/admin/ann",
    "ann",
    "spiffe://example.test/services/gateway/local",
    SessionMethod.CERTIFICATE,
    "1",
    "ipv4:127.0.0.1:1",
    ("ca",),
    (),
    BEGAN,
    BEGAN + timedelta(hours=8),
    None,
    "",
)


@dataclass
class FakeCa:
    """The CA's sessions, and a clock that waiting moves."""

    now: datetime = BEGAN
    tickets: int = 0
    closed: list[str] = field(default_factory=list)
    refusal: errors.KeyreeveError | None = None
    waits: list[float] = field(default_factory=list)
    ticket: Callable[[], bytes] | None = None

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        if seconds > 1:
            self.now += timedelta(seconds=seconds)
        await asyncio.sleep(0)

    # --- As the client and its `sessions` -----------------------------------------------------------------------------

    @property
    def sessions(self) -> "FakeCa":
        return self

    def on_behalf(self, ticket: Callable[[], bytes]) -> "FakeCa":
        self.ticket = ticket
        return self

    def _next(self) -> Ticket:
        self.tickets += 1
        return Ticket(b"ticket %d" % self.tickets, self.now + timedelta(minutes=5))

    async def open(self, _proof: CertificateProof, **_: Any) -> OpenedSession:
        return OpenedSession(replace(SESSION), self._next())

    async def renew(self) -> Ticket:
        if self.refusal is not None:
            raise self.refusal
        return self._next()

    async def close(self, name: str) -> None:
        self.closed.append(name)


def sessions(ca: FakeCa, why_over: Any = lambda _: None) -> TicketedSessions:
    client: Any = ca
    return TicketedSessions(client, lambda: ca.now, why_over, ca.sleep)


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(1_000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("never")


async def test_a_ticket_is_renewed_two_minutes_before_it_expires() -> None:
    ca = FakeCa()
    async with sessions(ca).open(PROOF, "somewhere"):
        assert ca.ticket is not None
        assert ca.ticket() == b"ticket 1"
        await until(lambda: ca.tickets == 3)
        assert ca.ticket() == b"ticket 3"
        assert [wait for wait in ca.waits if wait > 1][:2] == [180.0, 180.0]
    await until(lambda: ca.closed == ["sessions/one"])


async def test_a_session_whose_ticket_is_not_renewed_is_over() -> None:
    ca = FakeCa(refusal=errors.SessionClosed("an admin has closed it"))
    async with sessions(ca).open(PROOF, "somewhere") as session:
        assert isinstance(await session.wait_closed(), errors.SessionClosed)


async def test_a_ca_that_does_not_answer_is_asked_again() -> None:
    ca = FakeCa(refusal=errors.ServiceUnreachable("no answer"))
    async with sessions(ca).open(PROOF, "somewhere"):
        await until(lambda: [wait for wait in ca.waits if wait > 1] == [180.0, 5.0, 5.0])
        ca.refusal = None
        await until(lambda: ca.tickets == 2)


async def test_a_session_that_the_feed_calls_closed_is_over() -> None:
    ca, known = FakeCa(), list[errors.KeyreeveError]()
    async with sessions(ca, lambda _: known[0] if known else None).open(PROOF, "somewhere") as session:
        ending = asyncio.ensure_future(session.wait_closed())
        await until(lambda: ca.waits.count(1.0) > 2)
        assert not ending.done()
        known.append(errors.SessionClosed("it was closed"))
        assert await ending is known[0]


async def test_a_session_that_cannot_be_closed_ends_no_command(caplog: pytest.LogCaptureFixture) -> None:
    ca = FakeCa()

    async def refuse(_name: str) -> None:
        raise errors.ServiceUnreachable("no answer")

    ca.close = refuse  # type: ignore[method-assign]
    async with sessions(ca).open(PROOF, "somewhere"):
        pass
    await until(lambda: "could not be closed" in caplog.text)
