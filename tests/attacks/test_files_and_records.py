"""Sockets, files and records that another user or an attacker has in hand."""

import asyncio
import errno
import io
import json
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from keyreeve import Context, errors
from keyreeve.audit import exports
from keyreeve.keys import make_key, save_key
from keyreeve_chassis.audit.sinks import FileSink, SinkFailed
from keyreeve_chassis.guard.call import Call
from keyreeve_chassis.guard.failures import translate
from keyreeve_chassis.local_admin.client import ask
from keyreeve_chassis.processes import ipc
from support.enrolling import enrolling_ca, new_token
from support.running_ca import AUDITOR, MEMBERSHIP, OPERATOR, RunningCa, refused
from support.waiting import wait_for

__all__ = ["enrolling_ca"]

ANOTHER = 54_321
"""A user id that is not the tests'."""
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")


# --- The local socket ------------------------------------------------------------------------------------------------


@pytest.fixture
def place(tmp_path: Path) -> Path:
    directory = tmp_path / "s"
    directory.mkdir(mode=0o700)
    return directory / "coordinator.sock"


async def served(path: Path) -> ipc.IpcServer:
    async def answer(_payload: object, _connection: ipc.Connection) -> str:
        return "answered"

    return await ipc.serve(path, {"hello": answer})


async def test_a_socket_of_root_or_of_the_same_user_is_used(place: Path) -> None:
    server = await served(place)
    assert await ask(place, "hello", None) == "answered"
    await server.close()


@as_root
@pytest.mark.parametrize("owned", ["directory", "socket"])
async def test_nothing_is_sent_to_a_socket_that_another_user_made(place: Path, owned: str) -> None:
    server = await served(place)
    os.chown(place.parent if owned == "directory" else place, ANOTHER, ANOTHER)
    with pytest.raises(errors.StoreUnavailable, match="another user"):
        await ask(place, "hello", None)
    await server.close()


async def test_nothing_is_sent_to_a_socket_in_a_directory_that_others_may_write(place: Path) -> None:
    server = await served(place)
    place.parent.chmod(0o777)
    with pytest.raises(errors.StoreUnavailable, match="written by other users"):
        await ask(place, "hello", None)
    await server.close()


FAKE_SERVICE = """
import os, socket, sys
listener = socket.socket(fileno=int(sys.argv[1]))
os.setuid(int(sys.argv[2]))
listener.listen()
print("ready", flush=True)
sys.stdin.read()
"""


@as_root
def test_nothing_is_sent_to_a_process_of_another_user_whatever_the_socket_says(place: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place))
        place.chmod(0o600)
        command = [sys.executable, "-c", FAKE_SERVICE, str(listener.fileno()), str(ANOTHER)]
        with subprocess.Popen(
            command, pass_fds=(listener.fileno(),), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as fake:
            assert fake.stdout is not None
            assert fake.stdout.readline() == "ready\n"
            with pytest.raises(errors.StoreUnavailable, match="process of another user"):
                asyncio.run(ask(place, "hello", None))
            fake.communicate("")


# --- Audit -----------------------------------------------------------------------------------------------------------


def test_a_refused_token_is_recorded_with_the_identity_that_was_asked_for(enrolling_ca: RunningCa) -> None:
    wanted = "services/membership/wanted-by-an-operator"
    refused(lambda: new_token(enrolling_ca, wanted, by=OPERATOR))

    def recorded() -> bool:
        acts = enrolling_ca.client(AUDITOR).ca.audit.list(
            method="/keyreeve.ca.v1.EnrollmentService/CreateEnrollmentToken"
        )
        return any(("identity", enrolling_ca.identity(wanted)) in act.record.targets for act in acts)

    wait_for("the record", recorded)


def test_services_do_not_read_the_bodies_of_records(enrolling_ca: RunningCa) -> None:
    service = enrolling_ca.client(MEMBERSHIP).ca.audit
    assert isinstance(refused(lambda: list(service.segments())), errors.AccessDenied)
    assert isinstance(refused(lambda: list(service.list())), errors.AccessDenied)
    assert service.checkpoint().body
    assert list(enrolling_ca.client(AUDITOR).ca.audit.segments())


def exported(ca: RunningCa) -> list[str]:
    audit, text = ca.client(AUDITOR).ca.audit, io.StringIO()
    exports.write(audit.segments(), b"key", text)
    return text.getvalue().splitlines(keepends=True)


def test_a_readable_record_that_was_changed_beside_its_signed_bytes_is_found(enrolling_ca: RunningCa) -> None:
    lines = exported(enrolling_ca)
    _, segments = exports.read(lines)
    assert list(segments)
    at = next(n for n, line in enumerate(lines) if '"records": [{' in line)
    document = json.loads(lines[at])
    document["link"]["records"][0]["caller"] = "spiffe://example.test/operators/admin/eve"
    lines[at] = json.dumps(document) + "\n"
    _, segments = exports.read(lines)
    with pytest.raises(errors.FileUnusable, match="not those that were signed"):
        list(segments)


def test_an_audit_file_that_was_truncated_or_opened_to_others_is_noticed(
    enrolling_ca: RunningCa, tmp_path: Path
) -> None:
    path = tmp_path / "audit.jsonl"
    sink = FileSink(path)
    segments = list(enrolling_ca.client(AUDITOR).ca.audit.segments())
    sink.send(segments[:2], b"key")
    assert sink.reached() > 0
    path.chmod(0o666)
    with pytest.raises(SinkFailed, match="0666"):
        sink.reached()
    path.chmod(0o600)
    known = sink.reached()
    os.truncate(path, 10)
    with pytest.raises(SinkFailed, match="truncated"):
        sink.reached()
    assert sink.reached() < known, "what is missing is written again"


# --- Files of a caller -----------------------------------------------------------------------------------------------


@pytest.fixture
def found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A context in the default location of the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KEYREEVE_CONTEXT", raising=False)
    directory = tmp_path / ".keyreeve"
    directory.mkdir(mode=0o700)
    for name in ("bundle.pem", "estate.pem", "certificate.pem"):
        (directory / name).write_text("")
    save_key(directory / "key.pem", make_key())
    context = Context(
        trust_domain="example.test",
        endpoints={"ca": "127.0.0.1:1"},
        bundle=directory / "bundle.pem",
        estate_bundle=directory / "estate.pem",
        certificate=directory / "certificate.pem",
        key=directory / "key.pem",
    )
    context.save(directory / "context.json")
    return directory


def test_a_context_that_was_found_is_used(found: Path) -> None:
    assert Context.load().key == found / "key.pem"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
def test_a_found_context_with_a_key_that_others_can_read_or_write_is_refused(found: Path, mode: int) -> None:
    (found / "key.pem").chmod(mode)
    with pytest.raises(errors.ContextInvalid, match="key"):
        Context.load()


@as_root
def test_a_found_context_with_a_bundle_of_another_owner_is_refused(found: Path) -> None:
    os.chown(found / "bundle.pem", ANOTHER, ANOTHER)
    with pytest.raises(errors.ContextInvalid, match="bundle"):
        Context.load()


def test_files_of_a_new_certificate_ignore_a_permissive_umask(tmp_path: Path) -> None:
    from keyreeve.cli.certificates.certificate_files import Folder

    before = os.umask(0)
    try:
        files = Folder(tmp_path / "new" / "web")
        with files.tried():
            save_key(files.key, make_key())
    finally:
        os.umask(before)
    for created in (files.path, files.path.parent):
        assert stat.S_IMODE(created.stat().st_mode) == 0o755
    assert stat.S_IMODE(files.key.stat().st_mode) == 0o600


def test_a_full_disk_is_answered_with_a_reason() -> None:
    call = Call("/keyreeve.ca.v1.CertificateService/GetCertificate", None, peer="")
    told = translate(OSError(errno.ENOSPC, "No space left on device"), call)
    assert isinstance(told, errors.StoreUnavailable)
    assert "full" in told.message
