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

from keyreeve_ca.rules.serials import block_of
from keyreeve_ca.storage.schema import SCHEMA
from support.acknowledgements import Signers
from support.plane import Plane
from support.waiting import wait_for

KINDS = ("worker", "keeper", "zygote", "master", "supervisor")
KILLS = int(os.environ.get("KEYREEVE_KILLS", str(len(KINDS))))
BETWEEN = 40
"""Certificates to be acknowledged between two kills."""


@pytest.mark.faults
@pytest.mark.timeout(60 + KILLS * 45)
def test_nothing_acknowledged_is_missing_after_kills(database: str, own_plane: Plane, tmp_path: Path) -> None:
    own_plane.configure(database)
    own_plane.up()
    with Signers(own_plane, tmp_path / "acknowledged") as signers:
        signers.wait_for_more(BETWEEN)
        for turn in range(KILLS):
            kill(own_plane, KINDS[turn % len(KINDS)])
            signers.wait_for_more(BETWEEN)
    assert signers.unexpected == []
    assert own_plane.run("status").code == 0
    _check_ledger(own_plane, signers)
    own_plane.down()
    recorded = _recorded_blocks(own_plane, database)
    assert {block_of(bytes.fromhex(each.serial)) for each in signers.read()} <= recorded


def kill(plane: Plane, kind: str) -> None:
    """Kill one process of a kind, and wait until another one has its place (for the supervisor: bring it back)."""
    master = plane.master()
    if kind == "supervisor":
        supervisor = plane.supervisor()
        assert supervisor is not None
        os.kill(supervisor, signal.SIGKILL)
        plane.up()
        assert plane.supervisor() not in {None, supervisor}
        assert plane.master() == master  # adopted, not replaced
        return
    if kind == "master":
        assert master is not None
        os.kill(master, signal.SIGKILL)
        wait_for("another master runs", lambda: _other(plane.master(), [master]))
        return
    before = wait_for(f"a {kind} runs", lambda: plane.children()[kind])
    os.kill(before[0], signal.SIGKILL)
    wait_for(f"another {kind} runs", lambda: [pid for pid in plane.children()[kind] if pid not in before])


def _other(pid: int | None, before: list[int]) -> int | None:
    return pid if pid not in before else None


def _check_ledger(plane: Plane, signers: Signers) -> None:
    """Everything acknowledged is in the ledger as it was acknowledged, and no request was answered in two ways."""
    acknowledged = signers.read()
    assert len(acknowledged) >= signers.acknowledged > BETWEEN
    counts = Counter(each.serial for each in acknowledged)
    assert [serial for serial, count in counts.items() if count > 1] == []
    with plane.client() as client:
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


def _recorded_blocks(plane: Plane, database: str) -> set[int]:
    if database.startswith("sqlite"):
        file = plane.home.state("ca") / "ca.db"
        with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
            return {row[0] for row in connection.execute("SELECT block_id FROM serial_blocks")}
    with psycopg.connect(database) as connection:
        return {row[0] for row in connection.execute(f"SELECT block_id FROM {SCHEMA.name}.serial_blocks".encode())}
