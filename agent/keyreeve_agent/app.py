"""The composition root: what the agent is built from, with every concrete class named here."""

import asyncio
import fcntl
import json
import os
import secrets
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import structlog
from cryptography import x509

from keyreeve import aio
from keyreeve.context import Context
from keyreeve.enrollee_files import EnrolleeFiles
from keyreeve.errors import FileUnusable, KeyreeveError, NotEnrolled
from keyreeve.files import PRIVATE, write_atomically
from keyreeve.identity import Role, SpiffeId
from keyreeve.keys import load_certificates
from keyreeve.membership_values import Server
from keyreeve_agent.control.client import SdkControlPlane
from keyreeve_agent.control.expired import ExpiredCertificate
from keyreeve_agent.control.service import MemberLoop
from keyreeve_agent.material.directory import MaterialDirectory
from keyreeve_agent.material.roll_file import RollFile
from keyreeve_agent.material.seen_epochs import SeenEpochs
from keyreeve_agent.peers.dialing import PeerDialer
from keyreeve_agent.peers.server import PeerServer
from keyreeve_agent.peers.servicer import PeerServicer
from keyreeve_agent.peers.view import ArrayView
from keyreeve_agent.programs.reloading import ProgramReloader, run_bounded
from keyreeve_agent.programs.sessions import ServerSessions, read_sessions
from keyreeve_agent.settings import AgentSettings
from keyreeve_agent.status import status_of
from keyreeve_chassis.identity.evidence import TokenFile
from keyreeve_chassis.identity.keeping import ServiceIdentity
from keyreeve_chassis.processes.drain import stop_signals

_SESSIONS_SECONDS = 10.0
_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Agent:
    """One member's parts."""

    settings: AgentSettings
    view: ArrayView
    loop: MemberLoop
    port: PeerServer
    dialer: PeerDialer


def identity_of(settings: AgentSettings) -> SpiffeId:
    """This member's identity, from its control certificate. Raises `NotEnrolled`."""
    try:
        leaf = x509.load_der_x509_certificate(load_certificates(EnrolleeFiles(settings.control).certificate)[0])
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        [uri] = names.get_values_for_type(x509.UniformResourceIdentifier)
        identity = SpiffeId.parse(uri)
    except (OSError, ValueError, x509.ExtensionNotFound):
        raise NotEnrolled(f"there is no control certificate in {settings.control}") from None
    if identity.role is not Role.MEMBER:
        raise NotEnrolled(f"{settings.control} has the certificate of {identity}, which is no member")
    return identity


def view_of(settings: AgentSettings) -> ArrayView:
    """This member's view before anything is loaded. Raises `NotEnrolled`."""
    identity = identity_of(settings)
    return ArrayView(identity.path[-1], identity.trust_domain, secrets.token_hex(16))


def dialer_of(settings: AgentSettings, view: ArrayView) -> PeerDialer:
    """What dials peers with the files of the present material."""
    directory = MaterialDirectory(settings.peer)
    return PeerDialer(view, directory.current.resolve, lambda: _reachable(settings.listen))


def agent_of(settings: AgentSettings, client: aio.Client, view: ArrayView) -> Agent:
    """The agent with a client of the control plane."""
    server = Server(f"members/{view.name}", settings.address, settings.release, settings.external_names)
    port = PeerServer(view, PeerServicer(view), settings.listen)
    dialer = dialer_of(settings, view)
    loop = MemberLoop(
        control=SdkControlPlane(client, server),
        view=view,
        server=server,
        directory=MaterialDirectory(settings.peer),
        seen=SeenEpochs(settings.state_directory / "epochs.json"),
        roll_file=RollFile(settings.state_directory / "roll.json"),
        port=port,
        peers=dialer,
        programs=ProgramReloader(settings.programs),
        sessions=lambda: sessions_of(settings),
        publish=lambda: publish(settings.status_file, view),
    )
    return Agent(settings, view, loop, port, dialer)


async def run(settings: AgentSettings) -> None:
    """Run until a stop signal. Raises `NotEnrolled`, and `FileUnusable` when another agent runs."""
    view = view_of(settings)
    with locked(settings):
        stop = stop_signals()
        async with opened_client(settings, view) as client:
            agent = agent_of(settings, client, view)
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, agent.loop.renew_now)
            _log.info("the agent runs", member=view.name, listen=settings.listen)
            work = asyncio.create_task(agent.loop.run())
            stopping = asyncio.create_task(stop.wait())
            await asyncio.wait({work, stopping}, return_when=asyncio.FIRST_COMPLETED)
            for task in (stopping, work):
                task.cancel()
            await asyncio.wait({work, stopping})
            if not work.cancelled() and (failure := work.exception()) is not None:
                raise failure


@asynccontextmanager
async def opened_client(settings: AgentSettings, view: ArrayView) -> AsyncIterator[aio.Client]:
    """A client with the control certificate, which is kept up to date; it need not be valid now."""
    identity = SpiffeId(view.trust_domain, ("members", view.name))
    evidence = TokenFile(settings.state_directory / "enrollment-token")
    keeping = asyncio.create_task(ServiceIdentity(identity, settings.control, evidence).keep())
    context = context_of(settings)
    tasks = {keeping}
    if (address := _enrollment_address(settings)) is not None:
        tasks.add(asyncio.create_task(ExpiredCertificate(context, address).watch()))
    try:
        async with aio.Client(context) as client:
            yield client
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


def _enrollment_address(settings: AgentSettings) -> str | None:
    """The enrollment listener: of the settings, or of the token; None: unknown."""
    if found := settings.endpoints.get("enroll"):
        return found[0]
    try:
        return settings.enrollment_file.read_text("ascii").strip() or None
    except (OSError, ValueError):
        return None


def context_of(settings: AgentSettings) -> Context:
    """What to call the control plane with. Raises `ContextInvalid`."""
    context = Context.load(EnrolleeFiles(settings.control).context)
    return replace(context, endpoints={**context.endpoints, **settings.endpoints})


@contextmanager
def locked(settings: AgentSettings) -> Iterator[None]:
    """Be the only agent of the state directory. Raises `FileUnusable`."""
    descriptor = os.open(settings.lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FileUnusable(f"another agent uses {settings.state_directory}") from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def running_agent(settings: AgentSettings) -> int | None:
    """The process id of the agent that holds the state directory; None: none runs."""
    try:
        descriptor = os.open(settings.lock_file, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
        return int(text) if text.isdecimal() else None
    else:
        return None
    finally:
        os.close(descriptor)


def publish(path: Path, view: ArrayView) -> None:
    """Write what `status` prints; a full disk must not stop the agent."""
    try:
        write_atomically(path, json.dumps(status_of(view, time.time()), indent=1).encode(), PRIVATE)
    except OSError as failure:
        _log.warning("the status could not be written", error=str(failure))


def loaded_view(settings: AgentSettings) -> ArrayView:
    """The view of what is on disk, for commands beside the running agent. Raises `keyreeve.errors`."""
    view = view_of(settings)
    view.follow_roll(RollFile(settings.state_directory / "roll.json").read())
    material = MaterialDirectory(settings.peer).read()
    if material is None:
        raise NotEnrolled("there is no peer certificate yet: run the agent")
    view.load(material)
    return view


def read_status(path: Path) -> dict[str, Any]:
    """What the agent wrote last. Raises `NotEnrolled`."""
    try:
        found: dict[str, Any] = json.loads(path.read_bytes())
    except (OSError, ValueError):
        raise NotEnrolled(f"no agent has written its status to {path}") from None
    return found


async def sessions_of(settings: AgentSettings) -> ServerSessions | None:
    """What the site's command says of the server's sessions; None: unknown."""
    if not settings.sessions:
        return None
    try:
        output = await run_bounded("sessions", settings.sessions, _SESSIONS_SECONDS)
        return read_sessions(output.decode("ascii", "replace"))
    except (KeyreeveError, ValueError) as failure:
        _log.warning("the number of sessions is unknown", error=str(failure))
        return None


def _reachable(listen: str) -> str:
    """An address at which a listening address can be dialed."""
    host, _, port = listen.rpartition(":")
    return f"127.0.0.1:{port}" if host in {"0.0.0.0", "[::]", "*"} else listen  # noqa: S104 - it is compared, not bound
