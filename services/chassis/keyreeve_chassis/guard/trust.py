"""Whom a service other than the CA trusts: the CA service's feed of callers, as `PeerVerifier` asks for it.

trust = CallerTrust(KnownCallers.load(trust_domain, directory / "callers.json"), roots)
verifier = PeerVerifier(trust.view, now, trust)
... await trust.complete(), and trust.follow(lambda: aio.Client(context)) in the background
"""

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Protocol

import structlog
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

from keyreeve.caller_feed import KnownCallers
from keyreeve.caller_values import CallersUpdate, MemberRecord
from keyreeve.errors import KeyreeveError
from keyreeve.identity import SpiffeId
from keyreeve_chassis.guard.peers import OperatorRecord, TrustView

SILENCE_SECONDS = 3.5
"""The CA service sends an update every 2 s: after this long without one another connection is tried, and has a second
for its first update, before strict methods refuse (`Freshness.STRICT`)."""
_PAUSE_SECONDS = (0.25, 1.0)
"""Shortest and longest time between attempts to follow the feed."""

_log = structlog.get_logger(__name__)


class _Feed(Protocol):
    def watch_callers(self, restore_generation: int, after_seq: int) -> AsyncGenerator[CallersUpdate, None]: ...


class FeedClient(Protocol):
    """The part of `keyreeve.aio.Client` that is used here."""

    @property
    def trust(self) -> _Feed: ...
    async def close(self) -> None: ...


class CallerTrust:
    """A `Revocations` and the `TrustView` beside it. It belongs to one event loop."""

    def __init__(
        self,
        callers: KnownCallers,
        roots: Callable[[], Sequence[x509.Certificate]],
        *,
        silence: float = SILENCE_SECONDS,
    ) -> None:
        """Take what is known, and where to read the control hierarchy's roots; they are read at every update."""
        self._callers = callers
        self._roots = roots
        self._silence = silence
        self._complete = asyncio.Event()
        self._view = TrustView(callers.trust_domain, (), 0, {})
        self._made_of: tuple[object, ...] = ()
        self._look(roots())

    # --- What is asked on every call ----------------------------------------------------------------------------------

    def view(self) -> TrustView:
        """Whom to trust now."""
        return self._view

    def member(self, identity: SpiffeId | str) -> MemberRecord | None:
        """What the membership service says of the member with this SPIFFE ID: array, state, primary or not.

        None: it is no member. The answer comes from memory and follows the roll within about a second (`age` says how
        old it is), so ask for every call, and at every message of a stream: `trust.member(caller_of(call).id)`.
        """
        return self._callers.member(str(identity))

    def is_revoked(self, serial: int) -> bool:
        """Whether the certificate with this serial number has been revoked."""
        return self._callers.is_revoked(serial)

    def is_session_closed(self, session: str) -> bool:
        """Whether the session of an operator with this id has been closed."""
        return self._callers.is_session_closed(session)

    def age(self) -> float:
        """Seconds since this knowledge was complete; infinite before the first time."""
        return self._callers.age()

    # --- The feed -----------------------------------------------------------------------------------------------------

    async def complete(self) -> None:
        """Return once anything is known: from the file or from the feed. A server that starts earlier refuses everybody."""
        await self._complete.wait()

    async def follow(self, client: Callable[[], FeedClient]) -> None:
        """Follow the feed forever, with a client that is replaced when the feed fails or falls silent."""
        failures = 0
        while True:
            opened = client()
            try:
                async with aclosing(opened.trust.watch_callers(*self._callers.position)) as updates:
                    while True:
                        async with asyncio.timeout(self._silence):
                            update = await anext(updates)
                        await self.apply(update)
                        failures = 0
            except (KeyreeveError, TimeoutError, StopAsyncIteration) as failure:
                failures += 1
                if failures == 1:
                    why = str(failure) or f"no update for {self._silence:g} s"
                    _log.warning("the feed of callers failed", error=why, age_seconds=round(self.age(), 1))
            finally:
                await opened.close()
            await asyncio.sleep(random.uniform(*_PAUSE_SECONDS))  # noqa: S311  # no secret depends on it

    async def apply(self, update: CallersUpdate) -> None:
        """Take in one update and keep it on disk. Raises `CallersRefused`: nothing has changed then."""
        roots = self._roots()
        self._callers.apply(update, roots)
        self._look(roots)
        if (save := self._callers.saving()) is not None:
            try:
                await asyncio.to_thread(save)
            except OSError as failure:
                # The next update is applied all the same: a start without the file costs a snapshot.
                _log.warning("what is known of callers could not be written", error=str(failure))

    def _look(self, found: Sequence[x509.Certificate]) -> None:
        """Make a view when what it is made of has changed."""
        callers, roots = self._callers, tuple(found)
        made_of = (callers.issuers, callers.operators, roots)
        if callers.age() != float("inf"):
            self._complete.set()
        if made_of == self._made_of:
            return
        self._made_of = made_of
        self._view = TrustView(
            callers.trust_domain,
            tuple(one for one in callers.issuers if _is_below(one, roots)),
            self._view.generation + 1,
            {who: OperatorRecord(record.person_uid, record.since) for who, record in callers.operators.items()},
        )


def _is_below(issuer: x509.Certificate, roots: Sequence[x509.Certificate]) -> bool:
    """Whether a root that this service trusts has signed an issuing CA: the feed alone cannot add an authority."""
    for root in roots:
        try:
            issuer.verify_directly_issued_by(root)
        except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
            continue
        return True
    return False
