"""The root provider on a directory: its files; test_root_providers.py has what every provider promises."""

from pathlib import Path

import pytest

from keyreeve.errors import VaultKeyUnavailable
from keyreeve_chassis.keys.ports import KeyStoreError
from keyreeve_credentials.keys.roots.files import RootFiles, open_root_files

ONE = "1" * 32


@pytest.fixture
def root(tmp_path: Path) -> RootFiles:
    return open_root_files(tmp_path / "keys", first_start=True)


@pytest.mark.parametrize("damage", [b"", b"short", bytes(60)])
def test_a_damaged_key_is_refused_by_name(root: RootFiles, damage: bytes) -> None:
    root.create("sales", ONE)
    (root.directory / f"{ONE}.kek").write_bytes(damage)
    with pytest.raises(VaultKeyUnavailable, match=ONE) as refused:
        root.open("sales", ONE)
    assert "Restore" in refused.value.fix


def test_a_root_key_is_never_made_where_keys_are_known(root: RootFiles) -> None:
    root.create("sales", ONE)
    (root.directory / "root").unlink()
    for first_start in (True, False):
        with pytest.raises(KeyStoreError, match=r"root.*Restore"):
            open_root_files(root.directory, first_start=first_start)
    assert not (root.directory / "root").exists()


def test_a_root_key_of_another_length_is_refused(root: RootFiles) -> None:
    (root.directory / "root").write_bytes(bytes(31))
    with pytest.raises(KeyStoreError, match="32 bytes"):
        open_root_files(root.directory, first_start=False)


def test_files_are_private(root: RootFiles) -> None:
    root.create("sales", ONE)
    assert {path.name: path.stat().st_mode & 0o777 for path in root.directory.iterdir()} == {
        "root": 0o600,
        f"{ONE}.kek": 0o600,
    }
