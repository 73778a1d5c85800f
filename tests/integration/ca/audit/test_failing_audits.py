"""Calls while audit records cannot be written, or while a required sink fails."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from keyreeve import errors
from keyreeve_chassis.audit.chains import ChainWriter
from keyreeve_chassis.settings.sections import AuditSettings
from support.audit_sinks import goes_through, is_refused_for, whole
from support.running_ca import AUDITOR, OPERATOR, RunningCa, running
from support.waiting import wait_for

pytestmark = pytest.mark.faults


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def watched(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[RunningCa, Path]]:
    """A CA whose log must be taken by a file outside, and that file; each test leaves it as it was."""
    path = tmp_path_factory.mktemp("sink") / "audit.jsonl"
    with running(request.param, request, audit=AuditSettings(file=path, sink_required=True)) as ca:
        yield ca, path


def test_a_deleted_sink_stops_changes_and_a_new_one_gets_the_whole_log(watched):
    ca, path = watched
    wait_for("the sink to be reached", lambda: goes_through(ca))
    path.unlink()
    wait_for("a refusal", lambda: is_refused_for(ca, "deleted"))
    assert list(ca.client(AUDITOR).audit.list(code="UNAVAILABLE")) is not None, "reads go on"
    path.touch(mode=0o600)
    wait_for("changes to go on", lambda: goes_through(ca))
    whole(ca, path)
    assert list(ca.client(AUDITOR).audit.list(reason="AUDIT_UNAVAILABLE")), "the refusals are on record"


def test_a_full_sink_stops_changes_and_recovers_without_a_restart_or_a_gap(watched, monkeypatch):
    ca, path = watched
    wait_for("the sink to be reached", lambda: goes_through(ca))
    real, full = os.write, [True]

    def write(descriptor: int, data: bytes) -> int:
        try:
            ours = Path(f"/proc/self/fd/{descriptor}").readlink() == path
        except OSError:
            ours = False
        if ours and full:
            raise OSError(28, "No space left on device")
        return real(descriptor, data)

    monkeypatch.setattr(os, "write", write)
    wait_for("a refusal", lambda: is_refused_for(ca, "No space left"))
    full.clear()
    wait_for("changes to go on", lambda: goes_through(ca))
    whole(ca, path)


def test_a_hung_sink_stops_changes_and_the_log_says_so(watched, monkeypatch, caplog):
    ca, path = watched
    wait_for("the sink to be reached", lambda: goes_through(ca))
    go = threading.Event()
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").readlink() == path:
            go.wait()
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    wait_for("a refusal", lambda: is_refused_for(ca, "not answered"))
    wait_for("a line in the log while it hangs", lambda: "sink: it has not answered within" in caplog.text)
    go.set()
    wait_for("changes to go on", lambda: goes_through(ca))
    whole(ca, path)


@pytest.mark.parametrize("own_ca", ["sqlite"], indirect=True)
def test_a_read_is_not_answered_without_its_record(own_ca, monkeypatch):
    go = threading.Event()

    def hang(*_: object) -> None:
        go.wait(30)
        raise errors.StoreUnavailable("it hung")

    client = own_ca.client(OPERATOR)
    client.profiles.get("server")
    monkeypatch.setattr(ChainWriter, "append", hang)
    try:
        with pytest.raises((errors.AuditUnavailable, errors.DeadlinePassed)):
            client.profiles.get("server", timeout=2.4)
    finally:
        go.set()  # so that the service can end


def test_a_required_sink_must_be_named():
    with pytest.raises(ValueError, match="sink_required"):
        AuditSettings(sink_required=True)
