"""The identity and the trust of a process, as its listener and its guard ask for them.

evidence = TokenFile(state_directory / "enrollment-token")
async with open_identity(identity, state_directory / "identity", evidence, now=now) as opened:
    PeerVerifier(opened.trust_view, now, opened.revocations)
    LiveServerCredentials(opened.server_identity)
    run_tasks(stack, opened.jobs())
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keyreeve import aio
from keyreeve.caller_feed import KnownCallers
from keyreeve.context import Context
from keyreeve.identity import SpiffeId
from keyreeve.service_files import identity_directory, token_file
from keyreeve_chassis.guard.peers import Members, Revocations, TrustView
from keyreeve_chassis.guard.trust import CallerTrust
from keyreeve_chassis.identity.evidence import Evidence, TokenFile
from keyreeve_chassis.identity.files import LiveIdentity
from keyreeve_chassis.identity.keeping import ServiceIdentity
from keyreeve_chassis.identity.service_account import ServiceAccountToken
from keyreeve_chassis.settings.sections import ServerSettings
from keyreeve_chassis.tls import ServerIdentity

CALLERS_FILE = "callers.json"


@dataclass(frozen=True)
class EnrolledIdentity:
    """Who a process is and whom it trusts, both kept up to date while `open_identity` is entered."""

    context: Context
    """What to call other services with."""
    _live: LiveIdentity
    _trust: CallerTrust
    _tasks: "tuple[asyncio.Task[None], ...]"

    def server_identity(self) -> ServerIdentity:
        """What the listener presents now."""
        return self._live.server_identity()

    def trust_view(self) -> TrustView:
        """Whom it trusts now."""
        return self._trust.view()

    @property
    def revocations(self) -> Revocations:
        """Which certificates are revoked, and how old that knowledge is."""
        return self._trust

    @property
    def members(self) -> Members:
        """What is known of members of arrays: `members.member(caller.id)` on every call, at every message of a stream."""
        return self._trust

    def jobs(self) -> Sequence[Coroutine[Any, Any, None]]:
        """What fails when the identity or the trust cannot be kept up to date any more."""
        return (_first_failure(self._tasks),)


@asynccontextmanager
async def open_identity(
    identity: SpiffeId, directory: Path, evidence: Evidence, *, now: Callable[[], float]
) -> AsyncIterator[EnrolledIdentity]:
    """The identity in a directory, obtained on evidence when there is none that is usable, and the trust beside it.

    Waits for evidence, and until anything is known of callers, for as long as it takes. `now` is in seconds since 1970.
    """
    service_identity = ServiceIdentity(identity, directory, evidence, now)
    context = await service_identity.obtain()
    live = LiveIdentity(context)
    callers = KnownCallers.load(identity.trust_domain, directory / CALLERS_FILE, now=now)
    trust = CallerTrust(callers, live.roots)
    tasks = (
        asyncio.create_task(service_identity.keep()),
        asyncio.create_task(trust.follow(lambda: aio.Client(context))),
    )
    complete = asyncio.create_task(trust.complete())
    try:
        await asyncio.wait({*tasks, complete}, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task.done():
                task.result()
        yield EnrolledIdentity(context, live, trust, tasks)
    finally:
        for task in (*tasks, complete):
            task.cancel()
        await asyncio.wait({*tasks, complete})


def open_service_identity(
    name: str, settings: ServerSettings, now: Callable[[], float]
) -> AbstractAsyncContextManager[EnrolledIdentity]:
    """The identity of the instance that the settings name, enrolled with what they say or the token in its directory."""
    identity = SpiffeId(settings.trust_domain, ("services", name, settings.instance))
    evidence: Evidence = (token := TokenFile(token_file(settings.state_directory)))
    if (account := settings.service_account) is not None:
        evidence = ServiceAccountToken(account.token_file, account.bundle_file, account.address, token)
    return open_identity(identity, identity_directory(settings.state_directory), evidence, now=now)


async def _first_failure(tasks: Sequence["asyncio.Task[None]"]) -> None:
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()
