"""Sinks that really fail: a full file system, a file size limit, a pipe, a syslog that does not read."""

import json
import os
import re
import resource
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from subprocess import Popen

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key

from keyreeve import Client
from keyreeve.audit.log import Checkpoint
from keyreeve.audit.verifying import Segment
from keyreeve.errors import AuditCheckpointNotFound, AuditUnavailable, DeadlinePassed
from keyreeve.retry import NO_RETRY
from keyreeve_chassis.audit.sinks import SinkFailed, SyslogSink
from keyreeve_chassis.settings.sections import AuditSettings
from support.audit_sinks import BOUND, goes_through, in_file, is_refused_for, whole
from support.databases import fresh_postgresql_database
from support.forked_ca import again_and_again, forked_ca, forking_program
from support.postgres import Server
from support.running_ca import AUDITOR, OPERATOR, RunningCa, running, server_csr
from support.waiting import wait_for

__all__ = ["forking_program"]

KINDS = ["sqlite", "postgresql"]

pytestmark = pytest.mark.faults


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


# --- A file -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of 256 kB."""
    directory = Path(tempfile.mkdtemp(prefix="kr-disk-"))
    mounting = ["mount", "-t", "tmpfs", "-o", "size=256k,mode=0700", "tmpfs", str(directory)]
    mounted = subprocess.run(mounting, capture_output=True, check=False)
    if mounted.returncode:
        directory.rmdir()
        pytest.skip(f"may not mount a tmpfs ({mounted.stderr.decode().strip()}); the limit on a file's size is tested")
    yield directory
    # Lazily: the sink of a CA in this process keeps its file open.
    subprocess.run(["umount", "--lazy", str(directory)], check=True)
    directory.rmdir()


def test_a_disk_without_room_stops_changes_and_nothing_is_missing_when_there_is_some_again(
    kind: str, small_disk: Path, request: pytest.FixtureRequest
) -> None:
    path, ballast = small_disk / "audit.jsonl", small_disk / "ballast"
    with running(kind, request, audit=AuditSettings(file=path, sink_required=True)) as ca:
        wait_for("the sink to be reached", lambda: goes_through(ca))
        for _ in range(2):
            fill(ballast)
            refused = wait_for("a refusal", lambda: is_refused_for(ca, "No space left on device"))
            assert refused.retry_after is not None
            assert ca.client(AUDITOR).audit.checkpoint().checkpoint.k, "reads go on"
            ballast.unlink()
            wait_for("changes to go on", lambda: goes_through(ca))
            whole(ca, path)


def fill(ballast: Path) -> None:
    """Use up what room there is, to the last byte."""
    descriptor = os.open(ballast, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for size in (4096, 1):
        with suppress(OSError):
            while True:
                os.write(descriptor, b"x" * size)
    os.close(descriptor)


def test_a_file_that_may_not_grow_stops_changes_until_it_may(
    forking_program: "Popen[str]", postgresql_server: Server
) -> None:
    """RLIMIT_FSIZE of the real coordinator, which writes nothing else that grows: the database is elsewhere."""
    sink = {"AUDIT__FILE": "{directory}/audit.jsonl", "AUDIT__SINK_REQUIRED": "true"}
    with (
        fresh_postgresql_database(postgresql_server) as url,
        forked_ca(forking_program, url, **sink) as ca,
    ):
        ca.serve()
        path = ca.directory / "audit.jsonl"
        with Client(
            again_and_again("the first operator has a certificate", ca.admit), timeout=20, retry=NO_RETRY
        ) as admin:

            def goes() -> bool:
                try:
                    admin.certificates.sign("server", server_csr("web.example.test"), timeout=BOUND)
                except (AuditUnavailable, DeadlinePassed):
                    return False
                return True

            def refused() -> AuditUnavailable | None:
                try:
                    admin.certificates.sign("server", server_csr("web.example.test"), timeout=BOUND)
                except AuditUnavailable as found:
                    return found
                return None

            wait_for("the sink to be reached", goes)
            coordinator = ca.processes["coordinator"].pid
            before = resource.prlimit(coordinator, resource.RLIMIT_FSIZE)
            resource.prlimit(coordinator, resource.RLIMIT_FSIZE, (path.stat().st_size + 100, before[1]))
            wait_for("a refusal", lambda: (found := refused()) and "File too large" in found.message)
            resource.prlimit(coordinator, resource.RLIMIT_FSIZE, before)
            wait_for("changes to go on", goes)
            wanted = admin.audit.checkpoint().checkpoint.k
            verifier = wait_for(
                "the file to be up to date", lambda: v if (v := in_file(path)).last and v.last.k >= wanted else None
            )
            assert verifier.problems == []
        assert ca.processes["coordinator"].pid == coordinator, "nothing was started again"
        ca.stop()


def test_a_pipe_without_a_reader_is_no_sink_and_blocks_no_call(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    path = tmp_path / "audit.jsonl"
    os.mkfifo(path, 0o600)
    with running(kind, request, audit=AuditSettings(file=path, sink_required=True)) as ca:
        wait_for("a refusal", lambda: is_refused_for(ca, "no plain file"))
        path.unlink()
        path.touch(mode=0o600)
        wait_for("changes to go on", lambda: goes_through(ca))
        whole(ca, path)
        moved = path.rename(tmp_path / "moved")
        os.mkfifo(path, 0o600)
        wait_for("a refusal", lambda: is_refused_for(ca, "no plain file"))
        path.unlink()
        moved.rename(path)
        wait_for("changes to go on", lambda: goes_through(ca))
        whole(ca, path)


# --- Syslog -------------------------------------------------------------------------------------------------------------


class Syslog:
    """A daemon's socket, which is read when the test says so."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints: list[dict[str, object]] = []
        self.listen()

    def listen(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self.path))
        self._socket.setblocking(False)

    def read(self) -> None:
        """Take everything that waits."""
        with suppress(BlockingIOError):
            while True:
                message = self._socket.recv(65_536).decode()
                if message == "stuffing":
                    continue
                head, _, body = message.partition(" - {")
                assert re.match(r"<109>1 \S+ \S+ keyreeve \d+ audit-checkpoint$", head), head
                self.checkpoints.append(json.loads("{" + body))

    def stuff(self) -> None:
        """Fill the queue, as a daemon does that has stopped."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            sender.connect(str(self.path))
            with suppress(BlockingIOError):
                while True:
                    sender.send(b"stuffing")

    def close(self) -> None:
        """Be gone, with the socket."""
        self._socket.close()
        self.path.unlink(missing_ok=True)


@contextmanager
def with_syslog(kind: str, request: pytest.FixtureRequest) -> Iterator[tuple[RunningCa, Syslog]]:
    directory = Path(tempfile.mkdtemp(prefix="kr-"))
    syslog = Syslog(directory / "log")
    with running(kind, request, audit=AuditSettings(syslog=syslog.path, sink_required=True)) as ca:
        yield ca, syslog
    syslog.close()
    directory.rmdir()


def newest(ca: RunningCa) -> int:
    """The number of the newest checkpoint; 0 when there is none yet."""
    try:
        return ca.client(AUDITOR).audit.checkpoint().checkpoint.k
    except AuditCheckpointNotFound:
        return 0


def until(ca: RunningCa, syslog: Syslog) -> None:
    """Wait until syslog has the newest checkpoint, and check that it has all, each as it was signed."""
    auditor = ca.client(AUDITOR).audit
    wanted = wait_for("a checkpoint", lambda: newest(ca))

    def reached() -> bool:
        syslog.read()
        return any(told["k"] == wanted for told in syslog.checkpoints)

    wait_for("the newest checkpoint", reached)
    told = {found["k"]: found for found in syslog.checkpoints}
    assert set(range(1, wanted + 1)) <= set(told), "without a gap"
    for k in (1, wanted):
        signed = auditor.checkpoint(k)
        assert told[k]["root"] == signed.checkpoint.root.hex()
        assert told[k]["signature"] == signed.signature.hex()
        key = load_der_public_key(signed.spki)
        assert isinstance(key, EllipticCurvePublicKey)
        key.verify(signed.signature, signed.body, ECDSA(SHA256()))


def test_syslog_gets_each_checkpoint_and_one_that_stops_reading_stops_changes_until_it_reads_again(
    kind: str, request: pytest.FixtureRequest
) -> None:
    with with_syslog(kind, request) as (ca, syslog):

        def goes() -> bool:
            syslog.read()
            return goes_through(ca)

        wait_for("the sink to be reached", goes)
        until(ca, syslog)
        syslog.stuff()
        wait_for("a refusal", lambda: is_refused_for(ca, "not answered", "timed out"))
        wait_for("changes to go on", goes)
        until(ca, syslog)


def test_a_slow_syslog_receives_everything_after_an_outage(tmp_path: Path) -> None:
    """The kernel holds about ten messages for who does not read: no turn begins with the first of them again."""
    syslog = Syslog(tmp_path / "log")
    sink = SyslogSink(syslog.path, tmp_path / "state", seconds=0.01)
    missing = [
        Segment(Checkpoint(k, bytes(32), 1, 0, 0, 0, bytes(32), ()).encode(), b"", (), ()) for k in range(1, 201)
    ]
    while left := missing[sink.reached() :]:
        with suppress(SinkFailed):
            sink.send(left, b"")
        assert sink.reached() > 200 - len(left), "every turn brings some"
        syslog.read()
    syslog.read()
    syslog.close()
    assert [told["k"] for told in syslog.checkpoints] == list(range(1, 201)), "each once"


def test_a_syslog_that_is_gone_stops_changes_and_its_successor_gets_what_is_missing(
    kind: str, request: pytest.FixtureRequest
) -> None:
    with with_syslog(kind, request) as (ca, syslog):

        def goes() -> bool:
            syslog.read()
            return goes_through(ca)

        wait_for("the sink to be reached", goes)
        until(ca, syslog)
        syslog.close()
        wait_for("a refusal", lambda: is_refused_for(ca, "there is no socket", "No such file"))
        assert list(ca.client(OPERATOR).profiles.list()), "reads go on"
        syslog.listen()
        wait_for("changes to go on", goes)
        until(ca, syslog)
