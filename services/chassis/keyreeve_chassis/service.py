"""`ServiceSpec`: what one service declares; the chassis provides the rest."""

from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from keyreeve_chassis.local_admin.findings import Finding, look_at_files
from keyreeve_chassis.processes.ipc import Handler
from keyreeve_chassis.settings.sections import ServerSettings

if TYPE_CHECKING:  # what manages processes, or asks one, need not load what serves
    from keyreeve.context import Context
    from keyreeve_chassis.guard.peers import Members, Revocations, TrustView
    from keyreeve_chassis.guard.router import ServedService

S = TypeVar("S", bound=ServerSettings)
C = TypeVar("C", bound="ServiceContext[Any]")
S_contra = TypeVar("S_contra", bound=ServerSettings, contravariant=True)

Jobs = Sequence[Coroutine[Any, Any, None]]
"""Background work of a process; a job that ends with an error ends the process."""


class ProcessIdentity(Protocol):
    """Who a process is, for its calls of other services, and what it knows of its callers beside their certificates."""

    @property
    def context(self) -> "Context":
        """What to call other services with: `aio.Client(context)`."""
        ...

    @property
    def members(self) -> "Members":
        """What is known of members of arrays: `members.member(caller.id)`."""
        ...

    @property
    def revocations(self) -> "Revocations":
        """Which certificates are revoked, and which sessions of operators are closed."""
        ...

    def trust_view(self) -> "TrustView":
        """The current trust, with the operators."""
        ...


@dataclass(frozen=True)
class ServiceContext(Generic[S]):
    """What the handlers and jobs of one process use; with a database a `DatabaseContext`."""

    settings: S
    now: Callable[[], int]
    """The clock, in seconds since 1970."""
    process_identity: ProcessIdentity | None = field(default=None, kw_only=True)
    """The process's identity; None only for what comes with the storage, which is opened before."""

    @property
    def identity(self) -> ProcessIdentity:
        """The process's identity."""
        assert self.process_identity is not None, "what comes with the storage calls no other service"
        return self.process_identity


@dataclass(frozen=True)
class OpenStorage(Generic[S]):
    """A service's storage, opened for one process."""

    context: ServiceContext[S]
    record: Callable[[Sequence[bytes]], Awaitable[None]] | None = None
    """Commits audit records of calls that commit nothing else. None: its calls are audited where they lead."""
    services: Sequence["ServedService"] = ()
    """RPC services that come with the storage: the audit log and operations."""
    jobs: Jobs = ()
    gate: Callable[[], None] | None = None
    """Raises `AuditUnavailable` while nothing may be changed."""
    local_handlers: Mapping[str, Handler] = field(default_factory=dict)
    """For the local admin socket."""


class Migrations(Protocol[S_contra]):
    """A service's schema, for its commands `migrate` and `remove-database`."""

    def migrate(self, settings: S_contra, *, expand: bool = False) -> None:
        """Migrate the database to this release's revision; with `expand` only so far that the release before still works."""
        ...

    def remove(self, settings: S_contra) -> list[str]:
        """Remove what was made in the database, and return it. Raises `StartRefused`, `WrongDatabase`, `StoreUnavailable`."""
        ...


class Storage(Protocol[S_contra]):
    """A service's database, for its solo process: `keyreeve_chassis.database.storage.DatabaseStorage`."""

    def open(
        self, settings: S_contra, *, now: Callable[[], int], process: str
    ) -> AbstractAsyncContextManager[OpenStorage[Any]]:
        """Open it for the one process that writes; `process` names its audit chains. Raises `StartRefused`."""
        ...


def look_at_directories(settings: ServerSettings) -> Sequence[Finding]:
    """Check what a service without a database keeps; nothing is changed."""
    from keyreeve_chassis.local_admin.transport import look_at_transport

    directories = [(settings.state_directory, 0o700), (settings.run_directory, 0o700)]
    return [*look_at_files(directories), *look_at_transport(settings.listen.connections)]


@dataclass(frozen=True)
class Role(Generic[S]):
    """A kind of process: coordinator, worker, or solo."""

    name: str
    run: Callable[["ServiceSpec[S, Any]", S, int], Coroutine[Any, Any, None]]
    """Told its number among the processes of its role, from 0."""


@dataclass(frozen=True)
class ServiceSpec(Generic[S, C]):
    """One service: its name, settings, processes, background jobs, RPC services and database."""

    name: str
    """As in its identity, `spiffe://td/services/{name}/{instance}`, and its program, `python -m keyreeve_{name}`."""
    settings: type[S]
    roles: Sequence[Role[S]]
    jobs: Callable[[C], Jobs] = lambda _: ()
    """Of its solo process."""
    routers: Callable[[C], Sequence["ServedService"]] = lambda _: ()
    """The RPC services of its solo process."""
    schema: Migrations[S] | None = None
    """None: a service without a database, such as the gateway."""
    look: Callable[[S], Sequence[Finding]] = look_at_directories
    """Checks the installation without the running service, for `check` and `keyreeve doctor`; changes nothing."""

    @property
    def environment_prefix(self) -> str:
        """Prefix of the environment variables of its settings."""
        return f"KEYREEVE_{self.name.upper()}_"
