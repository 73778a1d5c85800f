"""A whole CA in this process: a coordinator and workers in a thread of their own, and clients of any identity.

`ca` runs a test against a CA of each database that the whole session shares: a test gives its profiles, authorities and
names words of its own (`unique`) and changes nothing that others rely on. `own_ca` is one for the test alone, whose clock
it may move and whose hierarchies it may break.
"""

import asyncio
import functools
import io
import itertools
import json
import os
import shutil
import sys
import tempfile
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import grpc
import pytest
from pydantic import SecretStr

from keyreeve import Client, Context, errors
from keyreeve.identity import Role, SpiffeId, service_dns_name
from keyreeve.keys import PrivateKey, make_csr, make_key, save_key
from keyreeve.values import Hierarchy, Name, to_pem
from keyreeve.values import Name as RuleName
from keyreeve.values import NameType as RuleNameType
from keyreeve_ca.certificates.linter import PkilintLinter
from keyreeve_ca.coordinator import RunningCoordinator, run_coordinator
from keyreeve_ca.issuance.service import LedgerEntry, Outcome, SignItem, SignRequest
from keyreeve_ca.issuance.serving_certificate import service_caller
from keyreeve_ca.ledger.ports import Rpc
from keyreeve_ca.operators.first_operator import roots_pem
from keyreeve_ca.operators.service import Operators
from keyreeve_ca.settings import CaSettings, LintSettings
from keyreeve_ca.store.schema import SCHEMA
from keyreeve_ca.worker import RunningWorker, run_worker
from keyreeve_chassis.audit import leader as auditing
from keyreeve_chassis.settings.sections import DatabaseSettings
from keyreeve_chassis.settings.serving import ServingSettings
from support.databases import fresh_postgresql_database
from support.migrated import first, migrated_postgresql, migrated_sqlite, run_directory
from support.postgres import Server
from support.waiting import wait_for

T = TypeVar("T")

TRUST_DOMAIN = "example.test"
ADMIN = "operators/admin/ann"
OPERATOR = "operators/operator/olaf"
AUDITOR = "operators/auditor/ada"
MEMBER = "members/web.example.test"
WORKLOAD = "workloads/billing/api"
MEMBERSHIP = "services/membership/one"
_PROFILES = {"services": "service", "operators": "operator", "members": "member", "workloads": "workload"}
CHECKPOINT_SECONDS = 0.15
"""Interval of checkpoints; a real CA makes one each second."""
_START_SECONDS = 60.0
_STARTED_DATABASE = "started_ca"
_numbers = itertools.count(1)


def unique(word: str) -> str:
    """Make a name that is unique in this session."""
    return f"{word}-{os.getpid()}-{next(_numbers)}"


@functools.cache
def some_key(number: int = 0) -> PrivateKey:
    """A shared P-256 key for requests whose key does not matter, because making keys is slow."""
    return make_key()


def server_csr(*names: str, key: PrivateKey | None = None) -> bytes:
    """A request for DNS names, with a key that other tests use too unless given."""
    return make_csr(key or some_key(), [Name.dns(name) for name in names])


class Clock:
    """The machine's clock, moved by `offset` seconds."""

    def __init__(self, offset: int = 0) -> None:
        self.offset = offset

    def now(self) -> int:
        return int(time.time()) + self.offset


@dataclass
class RunningCa:
    """A coordinator and its workers, until `stop`."""

    settings: CaSettings
    directory: Path
    workers: int = 2
    clock: Clock = field(default_factory=Clock)
    coordinator: RunningCoordinator = field(init=False)
    servings: list[RunningWorker] = field(default_factory=list)
    _loop: asyncio.AbstractEventLoop = field(init=False)
    _stopping: asyncio.Event = field(init=False)
    _thread: threading.Thread = field(init=False)
    _contexts: dict[tuple[str, int], Context] = field(default_factory=dict)
    _clients: dict[tuple[str, int], Client] = field(default_factory=dict)
    _channels: list[grpc.Channel] = field(default_factory=list)
    _profiles: dict[str, str] = field(default_factory=dict)

    # --- Its life ---------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start it. Raises the error of the start."""
        started: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, args=(started,), name="ca", daemon=True)
        self._thread.start()
        started.result(_START_SECONDS)

    def stop(self) -> None:
        """Stop it and keep its state."""
        for client in self._clients.values():
            client.close()
        for channel in self._channels:
            channel.close()
        self._clients.clear()
        self._channels.clear()
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join(_START_SECONDS)
            if self._thread.is_alive():
                frame = sys._current_frames()[self._thread.ident or 0]
                told = io.StringIO("".join(traceback.format_stack(frame)))
                told.seek(0, io.SEEK_END)
                for task in asyncio.all_tasks(self._loop):
                    task.print_stack(file=told)
                raise RuntimeError(f"the CA does not end; it is in\n{told.getvalue()}")

    def _run(self, started: "Future[None]") -> None:
        # Many tests look for the record of what they did, which the next checkpoint shows them.
        auditing.CHECKPOINT_SECONDS = CHECKPOINT_SECONDS

        async def live() -> None:
            self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
            async with AsyncExitStack() as stack:
                self.coordinator = await stack.enter_async_context(run_coordinator(self.settings, now=self.clock.now))
                await self.coordinator.issuance.store.write(self._know_usual_people)
                self.servings = [
                    await stack.enter_async_context(run_worker(self.settings, index, now=self.clock.now))
                    for index in range(self.workers)
                ]
                started.set_result(None)
                await self._stopping.wait()

        try:
            asyncio.run(live())
        except BaseException as failure:
            if started.done():
                raise
            started.set_exception(failure)

    def run(self, work: Coroutine[Any, Any, T], seconds: float = 30.0) -> T:
        """Run a coroutine where the CA runs."""
        return self.begin(work).result(seconds)

    def begin(self, work: Coroutine[Any, Any, T]) -> "Future[T]":
        """Let a coroutine run where the CA runs."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    # --- Who calls --------------------------------------------------------------------------------------------------

    def identity(self, path: str) -> str:
        return f"spiffe://{self.settings.trust_domain}/{path}"

    @property
    def operators(self) -> Operators:
        return Operators(self.settings.trust_domain, self.clock.now)

    def _know_usual_people(self, tx: Any) -> None:
        for path in (ADMIN, OPERATOR, AUDITOR):
            self._know(tx, path)

    def _know(self, tx: Any, path: str) -> None:
        _, role, name = path.split("/")
        if tx.operators.find(name) is None:
            self.operators.invite(tx, name, Role(f"operators/{role}"), "the fixture")

    def know(self, path: str) -> None:
        """Create an operator's record and wait until every process knows it."""
        self.write(lambda tx: self._know(tx, path))
        name, lives = path.rpartition("/")[2], [serving.live for serving in self.servings]
        wait_for(
            "every worker knows the person",
            lambda: all(any(p.name == name for p in live.current().operators.values()) for live in lives),
        )

    def issue(self, path: str, key: PrivateKey) -> LedgerEntry:
        """A certificate of the control hierarchy for any identity, over the signing path of the coordinator."""
        if path.startswith("operators/"):
            self.know(path)
        names = [RuleName(RuleNameType.URI, self.identity(path))]
        kind, _, rest = path.partition("/")
        if kind == "services":
            service = service_dns_name(rest.partition("/")[0], self.settings.trust_domain)
            names.append(RuleName(RuleNameType.DNS, service))
        outcome = self.sign_in_process(SignItem(_PROFILES[kind], make_csr(key), tuple(names)))
        if isinstance(outcome, errors.KeyreeveError):
            raise outcome
        return outcome

    def sign_in_process(self, item: SignItem, instance: str = "testing") -> Outcome:
        """Issue one certificate over the coordinator's signing path, as the CA service."""
        request = SignRequest(
            service_caller(self.settings.trust_domain, instance), Rpc("/test"), str(uuid.uuid4()), b"", (item,)
        )
        [outcome] = self.run(self.coordinator.issuance.sign(request))
        return outcome

    def context(self, path: str, *, worker: int = 0) -> Context:
        """The context of an identity, made on first use."""
        known = self._contexts.get((path, worker))
        if known is None:
            known = self._contexts[path, worker] = self.new_context(path, worker=worker)
        return known

    def new_context(self, path: str, *, worker: int = 0, key: PrivateKey | None = None) -> Context:
        """A context with a new certificate."""
        key = key or make_key()
        snapshot = self.coordinator.issuance.snapshot
        entry = self.issue(path, key)
        directory = self.directory / f"person-{next(_numbers)}"
        directory.mkdir()
        context = Context(
            trust_domain=self.settings.trust_domain,
            endpoints={"ca": f"127.0.0.1:{self.servings[worker].port}"},
            bundle=directory / "bundle.pem",
            estate_bundle=directory / "estate-bundle.pem",
            certificate=directory / "certificate.pem",
            key=directory / "key.pem",
        )
        issuer = snapshot().authorities[entry.authority_id]
        save_key(context.key, key)
        context.certificate.write_text(to_pem([entry.der, issuer.certificate_der]))
        context.bundle.write_bytes(roots_pem(snapshot(), Hierarchy.CONTROL))
        context.estate_bundle.write_bytes(roots_pem(snapshot(), Hierarchy.ESTATE))
        return context

    def client(self, path: str = ADMIN, *, worker: int = 0) -> Client:
        """A client of an identity, made on first use."""
        known = self._clients.get((path, worker))
        if known is None:
            known = self._clients[path, worker] = Client(self.context(path, worker=worker))
        return known

    def new_client(self, path: str, *, worker: int = 0, key: PrivateKey | None = None) -> Client:
        """A client of an identity with a new certificate."""
        client = Client(self.new_context(path, worker=worker, key=key))
        self._clients[path, next(_numbers) + 1000] = client
        return client

    def channel(self, path: str = ADMIN, *, worker: int = 0, context: Context | None = None) -> grpc.Channel:
        """A channel for stubs, for messages that the SDK would not send."""
        context = context or self.context(path, worker=worker)
        credentials = grpc.ssl_channel_credentials(
            context.bundle.read_bytes(), context.key.read_bytes(), context.certificate.read_bytes()
        )
        channel = grpc.secure_channel(context.endpoint("ca"), credentials, options=self.pinned)
        self._channels.append(channel)
        return channel

    @property
    def pinned(self) -> list[tuple[str, Any]]:
        """Options of a channel that pins the service's name and shares no connection with another."""
        name = service_dns_name("ca", self.settings.trust_domain)
        return [("grpc.ssl_target_name_override", name), ("grpc.use_local_subchannel_pool", 1)]

    # --- Asking -----------------------------------------------------------------------------------------------------

    def spiffe_id(self, path: str) -> SpiffeId:
        return SpiffeId.parse(self.identity(path))

    def profile(self, **changes: Any) -> str:
        """The name of a shared profile of the estate with these changes."""
        text = document(**changes)
        if text not in self._profiles:
            self._profiles[text] = self.new_profile(**changes)
        return self._profiles[text]

    def new_profile(self, **changes: Any) -> str:
        """Create such a profile for one test; return its name."""
        name = unique("profile")
        self.client().profiles.create(name, document(**changes))
        return name

    def read(self, work: Callable[[Any], T]) -> T:
        """Read the store as the coordinator does."""
        return self.run(self.coordinator.issuance.store.read(work))

    def write(self, work: Callable[[Any], T]) -> T:
        """Write the store as the coordinator does."""
        return self.run(self.coordinator.issuance.store.write(work))


def document(**changes: Any) -> str:
    """A valid profile document of the estate, with some keys replaced (None: omitted)."""
    whole: dict[str, Any] = {
        "description": "For a test.",
        "hierarchy": "estate",
        "requesters": ["operators/admin", "operators/operator", "workloads"],
        "keys": ["p256", "rsa2048"],
        "lifetime": {"default": "30d", "maximum": "60d"},
        "subject": {"common_name": "optional"},
        "names": {"dns": {"maximum": 10, "patterns": ["**"]}},
        "usage": {"extended": ["server_auth"]},
    }
    return json.dumps({key: value for key, value in (whole | changes).items() if value is not None})


def refused(call: Callable[[], object]) -> errors.KeyreeveError:
    """The error of a call that must fail."""
    with pytest.raises(errors.KeyreeveError) as caught:
        call()
    return caught.value


def settings_for(kind: str, directory: Path, url: str | None = None, **changes: Any) -> CaSettings:
    """Settings of a CA on loopback whose state lies in `directory`."""
    database = {} if url is None else {"database": DatabaseSettings(url=SecretStr(url))}
    values = {
        "trust_domain": TRUST_DOMAIN,
        "instance": "testing",
        "state_directory": directory / "ca",
        "listen": ServingSettings(health_port=None),
        "lint": LintSettings(sample_rate=0),
        "drain_seconds": 0.1,
        "workers": 1,
    }
    assert (kind == "sqlite") == (url is None)
    return CaSettings(**{**values, **database, **changes})


@contextmanager
def place_for_ca(
    kind: str, request: pytest.FixtureRequest, *, started: bool = False, **changes: Any
) -> Iterator[tuple[Path, CaSettings]]:
    """A temporary directory and settings for a CA with a migrated database: one that has never run, or once (`started`)."""
    # Not pytest's directories: their paths are too long for a socket.
    directory = Path(tempfile.mkdtemp(prefix="kr-"))
    try:
        if kind == "sqlite":
            settings = settings_for(kind, directory, **changes)
            if started:
                shutil.copytree(_started_once(kind, None) / "ca", settings.state_directory)
            else:
                migrated_sqlite(settings.state_directory / "ca.db", SCHEMA)
            yield directory, settings
            return
        server: Server = request.getfixturevalue("postgresql_server")
        template = None
        if started:
            shutil.copytree(_started_once(kind, server) / "ca", directory / "ca")
            template = _STARTED_DATABASE
        with fresh_postgresql_database(server, template) as url:
            yield directory, settings_for(kind, directory, url, **changes)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _started_once(kind: str, server: Server | None) -> Path:
    """The directory of a CA that has made its hierarchies and was stopped, from which others are copied."""
    directory = run_directory() / f"started-{kind}"
    with first(directory) as missing:
        if missing:
            making = Path(tempfile.mkdtemp(prefix="kr-"))
            url = None
            if server is None:
                migrated_sqlite(making / "ca" / "ca.db", SCHEMA)
            else:
                migrated_postgresql(server, SCHEMA, _STARTED_DATABASE)
                url = server.url(_STARTED_DATABASE)
            (making / "ca").mkdir(mode=0o700, exist_ok=True)
            # In a thread: the test that asks may run in an event loop.
            starting = RunningCa(settings_for(kind, making, url), making, workers=0)
            starting.start()
            starting.stop()
            making.rename(directory)
    return directory


@contextmanager
def running(
    kind: str, request: pytest.FixtureRequest, *, workers: int = 2, started: bool = True, **changes: Any
) -> Iterator[RunningCa]:
    """A CA that runs, and has before unless `started` is false; what has run before bears other addresses in its certificates."""
    with place_for_ca(kind, request, started=started, **changes) as (directory, settings):
        ca = RunningCa(settings, directory, workers)
        ca.start()
        try:
            yield ca
        finally:
            ca.stop()


@pytest.fixture(scope="session")
def sqlite_ca(request: pytest.FixtureRequest) -> Iterator[RunningCa]:
    with running("sqlite", request) as ca:
        yield ca


@pytest.fixture(scope="session")
def postgresql_ca(request: pytest.FixtureRequest) -> Iterator[RunningCa]:
    with running("postgresql", request) as ca:
        yield ca


@pytest.fixture
def real_lint() -> None:
    """For tests that need real linting before use."""


@pytest.fixture(autouse=True)
def quick_lint(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip linting of new profiles and authorities, which takes most of their time."""
    if "real_lint" not in request.fixturenames:
        monkeypatch.setattr(PkilintLinter, "profile", lambda *_: ())


@pytest.fixture(params=["sqlite", "postgresql"])
def ca(request: pytest.FixtureRequest) -> RunningCa:
    """The CA that the session shares, on each database in turn."""
    found: RunningCa = request.getfixturevalue(f"{request.param}_ca")
    return found


@pytest.fixture(params=["sqlite", "postgresql"])
def own_ca(request: pytest.FixtureRequest) -> Iterator[RunningCa]:
    """A CA for one test, on each database in turn."""
    with running(request.param, request) as ca:
        yield ca


def names_of(values: Sequence[Any]) -> list[str]:
    """The last segments of resource names."""
    return [value.name.partition("/")[2] for value in values]
