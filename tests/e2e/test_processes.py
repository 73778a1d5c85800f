"""Processes of a running CA: what they share, what they isolate, and that none is left behind."""

import os
import signal
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from support.control_plane import ControlPlane
from support.waiting import wait_for

MOST_BYTES = 400_000_000
"""What all processes of a CA with two workers may take together, each shared page counted once."""


def everyone(control_plane: ControlPlane) -> dict[int, str]:
    """All processes of the service by id, each with its kernel's name."""
    ids = [control_plane.manager(), *(pid for ids in control_plane.children().values() for pid in ids)]
    return {pid: Path(f"/proc/{pid}/comm").read_text().strip() for pid in ids if pid is not None}


def files(pid: int) -> dict[int, str]:
    """What a process has open, by descriptor."""
    found = {}
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            found[int(entry.name)] = str(entry.readlink())
    return found


def proportional(pid: int) -> dict[str, int]:
    """Bytes of a process's memory, by the kernel's name for each kind."""
    lines = [line.split() for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]]
    return {words[0].rstrip(":"): int(words[1]) * 1024 for words in lines}


@pytest.mark.alone
def test_processes_have_names_and_use_little_memory_together(control_plane: ControlPlane) -> None:
    names = everyone(control_plane)
    workers = [name for name in names.values() if name.startswith("kr-ca-worker-")]
    assert sorted(names.values()) == sorted(["kr-ca-manager", "kr-ca-fork_serv", "kr-ca-coordinat", *workers])
    assert len(workers) == len(set(workers)) >= 1
    for pid, name in names.items():
        if name.startswith("kr-ca-worker"):
            assert b"keyreeve_ca\0worker\0" in Path(f"/proc/{pid}/cmdline").read_bytes()
    if len(workers) <= 2:
        assert sum(proportional(pid)["Pss"] for pid in names) < MOST_BYTES
    # Imported once: what each of them shares with the others is most of what it has.
    for kind in ("fork_server", "worker"):
        for pid in control_plane.children()[kind]:
            told = proportional(pid)
            shared = told["Shared_Clean"] + told["Shared_Dirty"]
            assert shared > told["Private_Clean"] + told["Private_Dirty"], kind


@pytest.mark.alone
def test_the_fork_server_has_one_thread_and_no_secret_and_its_children_none_of_its_files(
    control_plane: ControlPlane,
) -> None:
    children = control_plane.children()
    [fork_server], [coordinator] = children["fork_server"], children["coordinator"]
    assert len(list(Path(f"/proc/{fork_server}/task").iterdir())) == 1
    own = files(fork_server)
    assert set(own) == {0, 1, 2}, own
    assert own[0].startswith("socket:")
    for pid in [coordinator, *children["worker"]]:
        theirs = files(pid)
        assert own[0] not in theirs.values()
        assert theirs[2] == own[2], "the log"
    key = (control_plane.state_directory.state("ca") / "kek").read_bytes()
    assert any(key in part for part in memory(coordinator)), "it can be seen there"
    assert not any(key in part for part in memory(fork_server))


def memory(pid: int) -> Iterator[bytes]:
    """What a process has in its private memory, mapping by mapping."""
    with Path(f"/proc/{pid}/mem").open("rb", 0) as content:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            place, rights = line.split()[:2]
            if rights.startswith("rw"):
                start, end = (int(word, 16) for word in place.split("-"))
                with suppress(OSError, ValueError):
                    content.seek(start)
                    yield content.read(end - start)


@pytest.mark.alone
def test_the_page_of_metrics_has_what_workers_count_and_nothing_of_those_that_do_not(
    control_plane: ControlPlane,
) -> None:
    assert control_plane.run("cert", "list", "--limit", "1").code == 0
    service = control_plane.run("status", "--output", "json").document["services"][0]
    with urllib.request.urlopen(f"http://{service['metrics']}/metrics", timeout=20) as page:
        lines = dict(line.rsplit(" ", 1) for line in page.read().decode().splitlines() if not line.startswith("#"))
    assert float(lines["keyreeve_serving_certificate_not_after_timestamp_seconds"]) > time.time()
    assert sum(float(value) for name, value in lines.items() if name.startswith("grpc_server_started_total{")) > 0


@pytest.mark.faults
@pytest.mark.timeout(400)
def test_all_processes_end_with_their_manager(own_control_plane: ControlPlane) -> None:
    own_control_plane.up()
    manager = own_control_plane.manager()
    assert manager is not None
    left = {pid: os.pidfd_open(pid) for pid in everyone(own_control_plane) if pid != manager}
    supervisor = own_control_plane.supervisor()
    assert supervisor is not None
    os.kill(supervisor, signal.SIGKILL)  # it would start another manager
    os.kill(manager, signal.SIGKILL)
    wait_for("all have ended", lambda: all(not _runs(handle) for handle in left.values()))
    for handle in left.values():
        os.close(handle)


def _runs(handle: int) -> bool:
    try:
        signal.pidfd_send_signal(handle, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.faults
@pytest.mark.timeout(400)
def test_a_killed_fork_server_is_replaced_without_a_failed_call(own_control_plane: ControlPlane) -> None:
    own_control_plane.up()
    before = own_control_plane.children()
    os.kill(before["fork_server"][0], signal.SIGKILL)
    wait_for(
        "another fork server runs",
        lambda: own_control_plane.children()["fork_server"] not in ([], before["fork_server"]),
    )
    after = own_control_plane.children()
    assert (after["coordinator"], after["worker"]) == (before["coordinator"], before["worker"])
    killed = after["worker"][0]
    os.kill(killed, signal.SIGKILL)
    count = len(before["worker"])
    wait_for("another worker runs", lambda: len(set(own_control_plane.children()["worker"]) - {killed}) == count)
    assert own_control_plane.run("cert", "list", "--limit", "1").code == 0
