"""kill -9 while an array is re-keyed: after each kill every entry opens, and the next process goes on."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from keyreeve_chassis.processes import failpoints
from keyreeve_credentials.keys.ports import KekState
from keyreeve_credentials.store.schema import SCHEMA
from support.service_in_process import database_url
from support.vault import vault_settings
from support.vault_storage import opened

POINTS = sorted(name for name in failpoints.registered() if name.startswith("credentials."))
ENTRIES = 120
PASSAGES = range(1, 11) if "KEYREEVE_KILLS" in os.environ else (2, 1)
EVERYTHING = {
    "credentials.commit.after",
    "credentials.commit.before",
    "credentials.kek.created",
    "credentials.kek.unlinked",
    "credentials.sweep.reencrypted",
}


def rekey(directory: Path, url: str, point: str = "", passage: int = 0) -> int:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    if point:
        environment |= {failpoints.ALLOW_VARIABLE: "1", failpoints.ARM_VARIABLE: f"{point}=crash@{passage}"}
    command = [sys.executable, "-m", "support.vault_rekeyer", str(directory), url]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode in {0, -signal.SIGKILL}, done.stderr
    return done.returncode


def test_the_failpoints_are_those_of_re_keying() -> None:
    assert set(POINTS) == EVERYTHING


@pytest.mark.faults
@pytest.mark.parametrize("database", ["sqlite", pytest.param("postgresql", marks=pytest.mark.thorough)])
@pytest.mark.parametrize("point", POINTS)
async def test_every_entry_opens_after_each_kill(
    tmp_path: Path, point: str, database: str, request: pytest.FixtureRequest
) -> None:
    url = database_url(database, lambda: request.getfixturevalue("postgresql_server"), SCHEMA)
    settings = vault_settings(tmp_path, url)
    async with opened(settings) as vault:
        made = [await vault.put("sales", f"o=I/cn=P{number}", f"secret {number}") for number in range(ENTRIES)]
    killed = 0
    for passage in PASSAGES:
        killed += rekey(tmp_path, url, point, passage) != 0
        async with opened(settings) as vault:
            for number, entry in enumerate(made):
                assert await vault.secret(entry) == f"secret {number}"
    assert killed, f"{point} is not on the way of a rotation"
    assert rekey(tmp_path, url) == 0
    async with opened(settings) as vault:
        for number, entry in enumerate(made):
            assert await vault.secret(entry) == f"secret {number}"
        keks = await vault.context.store.read(lambda tx: tx.keks.of_array("sales"))
        assert [kek.state for kek in keks[:-1]] == [KekState.DESTROYED] * (len(keks) - 1)
        assert keks[-1].state is KekState.WRITER
        assert await vault.scrub() == {}
