"""Two replicas of every service on one PostgreSQL, with the chart's own command lines and settings, as processes.

The load is that of `make chart-e2e`: it signs, resolves, enrolls and joins while replicas are replaced and killed. No call fails.
"""

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import helm_python as helm
import psycopg
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from psycopg import sql

from chart.processes.pods import PORTS, SERVICES, Cluster, Pod, cluster
from chart.rendering import CHART, PRODUCTION, manifests, recovery_command
from keyreeve import Client, Context
from keyreeve.enrollment import enroll
from keyreeve.launch_values import ApplicationKind, ObjectKind
from keyreeve.legacy_values import LegacyCommandLine
from keyreeve.operation_values import OperationState
from keyreeve.plaintext import Plaintext
from keyreeve.vault_values import KeyStage
from keyreeve_chassis.database.roles import schema_of
from support.postgres import Server, own_server
from support.token_reviews import api_server
from support.waiting import wait_for

ROUNDS = int(os.environ.get("KEYREEVE_KILLS", "1"))
"""Of replacing every replica, and of killing one of each service."""
READY_SECONDS = 180.0
"""A dozen processes start at once on two cores that other tests use, too."""
STORES = ("ca", "membership", "credentials")
ARRAY = "web"
MEMBERS = ("web-1.members.test", "web-2.members.test")
LOAD = Path(__file__).parent / "e2e" / "load.py"
VALUES: dict[str, Any] = {
    **PRODUCTION,
    "database": {"existingSecret": "urls", "adminSecret": "admin"},
    "membership": {"settings": {"roll": {"report_seconds": 1}}},
    "gateway": {"legacy": {"server": MEMBERS[0]}},
    "credentials": {"settings": {"vault": {"backup_days": 0}}},
    "check": {"members": True},
}

pytestmark = [pytest.mark.faults, pytest.mark.timeout(240 + 120 * ROUNDS)]


@dataclass
class Installation:
    """The pods, an admin, and two agents that have joined to one array."""

    cluster: Cluster
    server: Server
    context: Context
    directory: Path

    @contextmanager
    def load(self) -> Iterator[None]:
        """Load while the context lasts; no call may have failed for good."""
        stop, enrolled = self.directory / "stop", self.directory / "enrolled"
        stop.unlink(missing_ok=True)
        shutil.rmtree(enrolled, ignore_errors=True)
        command = [sys.executable, "-P", str(LOAD), "--context", str(self.context.path), "--stop", str(stop)]
        command += ["--array", ARRAY, "--directory", str(enrolled), "--members", *MEMBERS]
        running = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            wait_for("the load has begun", lambda: list(enrolled.glob("*/")))
            yield
        finally:
            stop.touch()
            output, _ = running.communicate(timeout=120)
        told = json.loads(output)
        print(json.dumps(told))
        for kind, outcome in told.items():
            assert outcome["succeeded"], f"{kind}: {told}"
            assert not outcome["failures"], f"{kind}: {outcome}"

    def replace(self, service: str) -> None:
        """Replace each replica as a rolling update does: the next one is ready before the old one stops."""
        for pod in self.cluster.replicas(service):
            made = self.cluster.schedule(service)
            wait_for(f"the next replica of {service} is ready", made.ready, READY_SECONDS)
            self.cluster.remove(pod)

    def kill(self, pod: Pod) -> None:
        """Kill a replica and start its container again, with what it kept in memory."""
        pod.kill()
        pod.start()
        wait_for(f"the killed replica of {pod.service} is ready", pod.ready, READY_SECONDS)


@pytest.fixture(scope="module")
def installed() -> Iterator[Installation]:
    # Not pytest's directories: their paths are too long for a socket.
    with tempfile.TemporaryDirectory(prefix="kr-") as directory:
        yield from install(Path(directory))


def install(directory: Path) -> Iterator[Installation]:
    """Install the chart with two replicas of each service, and take part in it."""
    secrets(directory)
    with helm.Chart.load(str(CHART)) as chart:
        found = manifests(chart, VALUES)
        recovery = recovery_command(chart, VALUES)
    (directory / "api").mkdir()
    with own_server() as server, api_server(directory / "api") as api:
        server.execute("CREATE DATABASE keyreeve")
        with cluster(directory, found, api, f"/keyreeve?host={server.directory}") as made:
            made.run_job("expand")
            start(made)
            context = become_admin(made, recovery, directory / "me")
            with agents(directory, context):
                fill(context)
                yield Installation(made, server, context, directory)


def secrets(directory: Path) -> None:
    """The files of the Secrets that an operator makes before an installation."""
    (directory / "keys").mkdir()
    (directory / "recovery").mkdir()
    pem = ed25519.Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    files = {f"keys/{name}": os.urandom(32) for name in ("ca", "membership", "credentials", "vault-root")}
    for name, content in {**files, "recovery/recovery.pem": pem}.items():
        (directory / name).write_bytes(content)
        (directory / name).chmod(0o600)


def start(made: Cluster) -> None:
    """Start two replicas of each service; all at once, once the CA's have published the bundle that the others mount."""
    pods = [made.schedule("ca") for _ in range(2)]
    wait_for("the CA has published its roots", made.bundle)
    pods += [made.schedule(service) for service in SERVICES[1:] for _ in range(2)]
    for pod in pods:
        wait_for(f"a replica of {pod.service} is ready", pod.ready, READY_SECONDS)


def become_admin(made: Cluster, recovery: list[str], directory: Path) -> Context:
    """Take the token that the CA prints in its pod."""
    told = made.execute(made.replicas("ca")[0], ["e2e" if part == "YOUR-NAME" else part for part in recovery])
    context = enroll(json.loads(told)["invitation"]["token"], directory)
    assert context.path is not None
    document = json.loads(context.path.read_text())
    context.path.write_text(json.dumps({**document, "endpoints": made.endpoints()}))
    return Context.load(context.path)


@contextmanager
def agents(directory: Path, context: Context) -> Iterator[None]:
    """Two agents, joined to one array."""
    running = []
    try:
        with Client(context) as client:
            for number, member in enumerate(MEMBERS, 1):
                (token := directory / f"token-{number}").write_text(
                    client.tokens.create(f"spiffe://{context.trust_domain}/members/{member}").text
                )
                token.chmod(0o600)
                endpoints = {service: context.endpoints[service] for service in ("ca", "membership")}
                settings = {
                    "address": f"127.77.9.{number}:5427",
                    "state_directory": str(directory / f"agent-{number}"),
                    "endpoints": {name: list(addresses) for name, addresses in endpoints.items()},
                }
                (config := directory / f"agent-{number}.yaml").write_text(json.dumps(settings))
                command = [sys.executable, "-P", "-m", "keyreeve_agent", "--config", str(config)]
                subprocess.run([*command, "enroll", "--token", str(token)], check=True, capture_output=True)
                with (directory / f"agent-{number}.log").open("wb") as log:
                    running.append(subprocess.Popen([*command, "run"], stdout=log, stderr=log))
            primary, secondary = (f"members/{member}" for member in MEMBERS)

            def arrays() -> dict[str, bytes]:
                return {one.primary: one.authority_sha256 for one in client.membership.arrays.list()}

            def reported() -> set[str]:
                return {one.name for one in client.membership.members.list() if one.report is not None}

            wait_for("both agents have reported", lambda: {primary, secondary} <= reported())
            begun = client.membership.arrays.join(primary, secondary, accepted_sha256=arrays()[primary])
            last = list(client.membership.operations.watch(begun.name))[-1]
            assert last.state is OperationState.SUCCEEDED, last
        yield
    finally:
        for process in running:
            process.kill()
            process.wait(10)


def fill(context: Context) -> None:
    """Put a password that the load resolves."""
    with Client(context) as client:
        vault = client.credentials
        vault.objects.create(ARRAY, "o=Indigo/cn=prague", ObjectKind.APPLICATION_SERVER, domain="INDIGO")
        vault.objects.create(
            ARRAY, "o=Indigo/cn=Word", ObjectKind.APPLICATION, application_kind=ApplicationKind.WINDOWS
        )
        vault.entries.create(ARRAY, "o=Indigo/cn=Ada", ".../_wns/INDIGO", "ada", Plaintext(b"made up by the test"))


def test_replacing_and_killing_every_replica_costs_no_call(installed: Installation) -> None:
    rng = random.Random(1)
    with installed.load(), watched_leases(installed.server) as holders:
        for _ in range(ROUNDS):
            # As `kubectl rollout restart` does: the Deployments at once, each pod by pod.
            with ThreadPoolExecutor(len(SERVICES)) as at_once:
                list(at_once.map(installed.replace, SERVICES))
            for service in rng.sample(SERVICES, len(SERVICES)):
                installed.kill(rng.choice(installed.cluster.replicas(service)))
    assert len(leaders(holders, "membership")) > 1, "no replica took over the joins of one that went"


def test_a_key_of_the_vault_is_rotated_and_destroyed_under_load(installed: Installation) -> None:
    with (
        Client(installed.context, timeout=60) as client,
        installed.load(),
        watched_leases(installed.server) as holders,
    ):
        keys = client.credentials.keys
        old = next(key for key in keys.state(ARRAY).keys if key.stage is KeyStage.WRITER)
        begun = keys.rotate(ARRAY)
        last = list(client.credentials.operations.watch(begun.name))[-1]
        assert last.state is OperationState.SUCCEEDED, last
        stages = {key.name: key.stage for key in keys.state(ARRAY).keys}
        assert stages[old.name] is not KeyStage.WRITER
        if stages[old.name] is not KeyStage.DESTROYED:
            keys.destroy(old.name)

        def destroyed() -> bool:
            return {key.name: key.stage for key in keys.state(ARRAY).keys}.get(old.name) in (None, KeyStage.DESTROYED)

        wait_for("the old key has been destroyed", destroyed)
    assert leaders(holders, "credentials"), "a replica led the rotation"


def test_every_gateway_carries_out_a_legacy_command(installed: Installation) -> None:
    for pod in installed.cluster.replicas("gateway"):
        endpoints = {**installed.context.endpoints, "gateway": [f"{pod.host}:{PORTS['gateway']}"]}
        console = Output()
        with Client(replace(installed.context, endpoints=endpoints)) as client:
            code = client.gateway.commands.execute(LegacyCommandLine("tarantella", ["array", "list"]), console)
        assert code == 0, console.lines
        assert any(MEMBERS[0] in line for line in console.lines), console.lines


def test_the_check_of_the_release_issues_verifies_and_revokes(installed: Installation) -> None:
    check = installed.cluster.schedule_check("Job", "check", "127.77.9.13")
    assert check.process is not None
    assert check.process.wait(60) == 0, check.log()
    for step in ("enrolled", "issued", "verified it against", "verified it with OpenSSL", "revoked"):
        assert step in check.log()
    installed.cluster.remove(check)


def test_two_servers_of_the_charts_own_test_share_a_password_again_and_again(installed: Installation) -> None:
    for _ in range(2):
        second = installed.cluster.schedule_check("Deployment", "test-server", "127.77.9.12")
        first = installed.cluster.schedule_check("Pod", "test-array", "127.77.9.11")
        assert first.process is not None
        assert first.process.wait(120) == 0, first.log() + second.log()
        assert "has resolved it" in first.log()
        wait_for("the second has left, too", lambda second=second: "member-2.control has left" in second.log())
        for pod in (first, second):
            installed.cluster.remove(pod)
    with Client(installed.context) as client:
        found = {one.name for one in client.membership.members.list()}
    assert found == {f"members/{member}" for member in MEMBERS}, "those of the test have left the roll"


@dataclass
class Output:
    """A terminal without anybody at it."""

    lines: list[str] = field(default_factory=list)
    interactive: bool = False

    def say(self, line: str = "") -> None:
        self.lines.append(line)

    warn = say

    def ask(self, _prompt: str) -> None: ...

    ask_secret = ask

    def read_file(self, _name: str, _limit: int) -> bytes:
        return b""


@contextmanager
def watched_leases(server: Server) -> Iterator[dict[tuple[str, str, int], set[str]]]:
    """Note who holds each lease while the context lasts: processes by service, lease and fence."""
    holders: dict[tuple[str, str, int], set[str]] = defaultdict(set)
    over = threading.Event()

    def watch() -> None:
        with psycopg.connect(server.url("keyreeve"), autocommit=True) as connection:
            while not over.wait(0.1):
                for service in STORES:
                    table = sql.Identifier(schema_of(service), "leases")
                    asked = sql.SQL("SELECT name, fence, owner_nonce FROM {}").format(table)
                    for name, fence, owner in connection.execute(asked).fetchall():
                        holders[service, name, fence].add(owner)

    with ThreadPoolExecutor(1) as thread:
        watching = thread.submit(watch)
        try:
            yield holders
        finally:
            over.set()
            watching.result()


def leaders(holders: Mapping[tuple[str, str, int], set[str]], service: str) -> set[str]:
    """The replicas of a service that have led something; no two processes had the same fence of a lease."""
    assert [lease for lease, owners in holders.items() if len(owners) > 1] == []
    return {owner.partition("/")[0] for (one, _, _), [owner] in holders.items() if one == service}
