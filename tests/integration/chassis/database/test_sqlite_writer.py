"""The writing process of an SQLite file: its lock, the settings of its connection, read-only readers."""

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from keyreeve_chassis.database.engine import sqlite_reader, sqlite_release, sqlite_writer
from keyreeve_chassis.database.locking import DatabaseRefused, FileLock, file_system_type, refuse_network_file_system
from support.databases import CaDatabase

MOUNTS = """\
22 28 0:21 / /proc rw - proc proc rw
28 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 28 0:40 / /srv/nfs rw shared:2 - nfs4 server:/export rw
31 30 0:41 / /srv/nfs/local rw - ext4 /dev/vdb rw
32 28 0:42 / /srv/with\\040space rw - cifs //server/share rw
33 28 0:43 / /srv/hidden rw - ext4 /dev/vdc rw
34 28 0:44 / /srv/hidden rw - fuse.sshfs host: rw
"""


def test_a_second_coordinator_is_refused_until_the_first_lets_go(tmp_path: Path) -> None:
    path = tmp_path / "ca.sqlite"
    with FileLock(path):
        with pytest.raises(DatabaseRefused, match=r"pid \d+.*one writer.*keyreeve down"):
            FileLock(path).acquire()
        program = (
            "import sys; from pathlib import Path; from keyreeve_chassis.database.locking import *\n"
            "FileLock(Path(sys.argv[1])).acquire()"
        )
        other = subprocess.run([sys.executable, "-c", program, path], check=False, capture_output=True, text=True)
        assert other.returncode != 0
        assert "DatabaseRefused" in other.stderr
    with FileLock(path):
        pass


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/lib/keyreeve", "ext4"),
        ("/srv/nfs/keyreeve", "nfs4"),
        ("/srv/nfs/local/keyreeve", "ext4"),
        ("/srv/with space/keyreeve", "cifs"),
        ("/srv/hidden/x", "fuse.sshfs"),
    ],
)
def test_the_file_system_of_a_path_is_that_of_its_nearest_mount(path: str, kind: str) -> None:
    assert file_system_type(Path(path), MOUNTS) == kind


def test_a_network_file_system_is_refused_and_a_local_one_is_not(tmp_path: Path) -> None:
    refuse_network_file_system(tmp_path)
    for path in ("/srv/nfs/x", "/srv/with space/x", "/srv/hidden/x"):
        with pytest.raises(DatabaseRefused, match="local disk, or PostgreSQL"):
            refuse_network_file_system(Path(path), MOUNTS)


def test_the_writer_commits_to_disk_and_alone_folds_its_log_into_the_file(tmp_path: Path) -> None:
    engine = sqlite_writer(tmp_path / "ca.sqlite")
    with engine.connect() as connection:
        pragma = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "secure_delete")
        }
        assert pragma == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "secure_delete": 2}
    engine.dispose()


def test_a_reader_sees_what_is_committed_and_can_neither_write_nor_checkpoint(sqlite_database: CaDatabase) -> None:
    path = Path(sqlite_database.location)
    writer, reader = sqlite_writer(path), sqlite_reader(path, connections=1)
    with writer.begin() as connection:
        connection.exec_driver_sql("INSERT INTO keys (key_id, key_type, spki) VALUES ('k', 'p256', x'00')")
    size = path.stat().st_size
    with reader.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM keys").scalar() == 1
        for statement in ("DELETE FROM keys", "CREATE TABLE t (x)", "VACUUM"):
            with pytest.raises(OperationalError):
                connection.exec_driver_sql(statement)
    raw = reader.raw_connection()
    with pytest.raises(sqlite3.OperationalError):
        raw.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")
    raw.close()
    assert path.stat().st_size == size
    reader.dispose()
    writer.dispose()


@pytest.mark.parametrize(
    ("version", "affected"), [((3, 6, 9), False), ((3, 40, 1), True), ((3, 51, 2), True), ((3, 51, 3), False)]
)
def test_releases_of_sqlite_with_the_wal_reset_bug_are_named(version: tuple[int, ...], affected: bool) -> None:
    release = sqlite_release(version)
    assert release.has_wal_reset_bug is affected
    assert release.version == ".".join(map(str, version))
