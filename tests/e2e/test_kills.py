"""kill -9 of any process while certificates are signed, on both databases: nothing acknowledged is ever missing.

`make faults KILLS=1`, as CI runs it, kills each kind of process once on each database; `make faults` goes on to 20.
"""

import contextlib
import os
import signal
import sqlite3
from collections import Counter
from pathlib import Path

import psycopg
import pytest

from keyreeve_ca.certificates.serials import block_of
from keyreeve_ca.store.schema import SCHEMA
from support.acknowledgements import Signers
from support.control_plane import ControlPlane
from support.waiting import wait_for

KINDS = ("worker", "coordinator", "fork_server", "manager", "supervisor")
KILLS = int(os.environ.get("KEYREEVE_KILLS", str(len(KINDS))))
BETWEEN = 40
"""Certificates to be acknowledged between two kills."""


@pytest.mark.thorough_on("sqlite")
@pytest.mark.faults
@pytest.mark.timeout(60 + KILLS * 45)
def test_nothing_acknowledged_is_missing_after_kills(
    database: str, own_control_plane: ControlPlane, tmp_path: Path
) -> None:
    own_control_plane.configure(database)
    own_control_plane.up()
    with Signers(own_control_plane, tmp_path / "acknowledged") as signers:
        signers.wait_for_more(BETWEEN)
        for turn in range(KILLS):
            kill(own_control_plane, KINDS[turn % len(KINDS)])
            signers.wait_for_more(BETWEEN)
    assert signers.unexpected == []
    assert own_control_plane.run("status").code == 0
    _check_ledger(own_control_plane, signers)
    own_control_plane.down()
    recorded = _recorded_blocks(own_control_plane, database)
    assert {block_of(bytes.fromhex(each.serial)) for each in signers.read()} <= recorded


def kill(control_plane: ControlPlane, kind: str) -> None:
    """Kill one process of a kind, and wait until another one has its place (for the supervisor: bring it back)."""
    manager = control_plane.manager()
    if kind == "supervisor":
        supervisor = control_plane.supervisor()
        assert supervisor is not None
        os.kill(supervisor, signal.SIGKILL)
        control_plane.up()
        assert control_plane.supervisor() not in {None, supervisor}
        assert control_plane.manager() == manager  # adopted, not replaced
        return
    if kind == "manager":
        assert manager is not None
        os.kill(manager, signal.SIGKILL)
        wait_for("another manager runs", lambda: _other(control_plane.manager(), [manager]))
        return
    before = wait_for(f"a {kind} runs", lambda: control_plane.children()[kind])
    os.kill(before[0], signal.SIGKILL)
    wait_for(f"another {kind} runs", lambda: [pid for pid in control_plane.children()[kind] if pid not in before])


def _other(pid: int | None, before: list[int]) -> int | None:
    return pid if pid not in before else None


def _check_ledger(control_plane: ControlPlane, signers: Signers) -> None:
    """Everything acknowledged is in the ledger as it was acknowledged, and no request was answered in two ways."""
    acknowledged = signers.read()
    assert len(acknowledged) >= signers.acknowledged > BETWEEN
    counts = Counter(each.serial for each in acknowledged)
    assert [serial for serial, count in counts.items() if count > 1] == []
    with control_plane.client() as client:
        ledger: dict[str, bytes] = {}
        requests: dict[str, set[str]] = {}
        for certificate in client.certificates.list(profile="server", page_size=500):
            assert certificate.serial not in ledger
            ledger[certificate.serial] = certificate.certificate_der
            requests.setdefault(certificate.request_id, set()).add(certificate.serial)
    assert [each.serial for each in acknowledged if ledger.get(each.serial) != each.der] == []
    answered: dict[str, set[str]] = {}
    for each in acknowledged:
        answered.setdefault(each.request_id, set()).add(each.serial)
    # A request that was repeated after a lost answer was not done twice.
    assert [request for request, serials in answered.items() if requests[request] != serials] == []


def _recorded_blocks(control_plane: ControlPlane, database: str) -> set[int]:
    if database.startswith("sqlite"):
        file = control_plane.state_directory.state("ca") / "ca.db"
        with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
            return {row[0] for row in connection.execute("SELECT block_id FROM serial_blocks")}
    with psycopg.connect(database) as connection:
        return {row[0] for row in connection.execute(f"SELECT block_id FROM {SCHEMA.name}.serial_blocks".encode())}
