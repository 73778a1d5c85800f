"""The root provider on a directory: keys that are created once, opened at their place, and destroyed for good."""

import os
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidTag

from keyreeve.errors import VaultKeyUnavailable
from keyreeve_chassis.keys.ports import KeyStoreError
from keyreeve_credentials.keys.keyring import Keyring
from keyreeve_credentials.keys.root_files import RootFiles, open_root_files

ONE, TWO = "1" * 32, "2" * 32


@pytest.fixture
def root(tmp_path: Path) -> RootFiles:
    return open_root_files(tmp_path / "keys", first_start=True)


def test_a_key_is_the_same_for_every_replica_that_shares_the_directory(root: RootFiles) -> None:
    root.create("sales", ONE)
    another = open_root_files(root.directory, first_start=False)
    sealed = root.open("sales", ONE).encrypt(bytes(12), b"text", b"aad")
    assert another.open("sales", ONE).decrypt(bytes(12), sealed, b"aad") == b"text"
    assert another.list() == [ONE]


def test_two_keys_are_different(root: RootFiles) -> None:
    for kek_id in (ONE, TWO):
        root.create("sales", kek_id)
    sealed = root.open("sales", ONE).encrypt(bytes(12), b"text", None)
    with pytest.raises(InvalidTag):
        root.open("sales", TWO).decrypt(bytes(12), sealed, None)


def test_a_destroyed_key_is_gone_for_good(root: RootFiles) -> None:
    root.create("sales", ONE)
    assert not root.confirm(ONE)
    root.destroy(ONE)
    root.destroy(ONE)
    assert root.confirm(ONE)
    assert root.list() == []
    for act in (lambda: root.open("sales", ONE), lambda: root.create("sales", ONE)):
        with pytest.raises(VaultKeyUnavailable, match="destroyed"):
            act()


def test_a_key_is_not_made_twice(root: RootFiles) -> None:
    root.create("sales", ONE)
    with pytest.raises(VaultKeyUnavailable):
        root.create("sales", ONE)


def test_a_key_does_not_open_for_another_array_nor_under_another_name(root: RootFiles) -> None:
    root.create("sales", ONE)
    os.link(root.directory / f"{ONE}.kek", root.directory / f"{TWO}.kek")
    for array, kek_id in (("finance", ONE), ("sales", TWO)):
        with pytest.raises(VaultKeyUnavailable, match="does not open"):
            root.open(array, kek_id)


@pytest.mark.parametrize("damage", [b"", b"short", bytes(60)])
def test_a_damaged_key_is_refused_by_name(root: RootFiles, damage: bytes) -> None:
    root.create("sales", ONE)
    (root.directory / f"{ONE}.kek").write_bytes(damage)
    with pytest.raises(VaultKeyUnavailable, match=ONE) as refused:
        root.open("sales", ONE)
    assert "Restore" in refused.value.fix


def test_another_root_key_opens_nothing(root: RootFiles) -> None:
    root.create("sales", ONE)
    (root.directory / "root").write_bytes(bytes(32))
    with pytest.raises(VaultKeyUnavailable, match="does not open"):
        open_root_files(root.directory, first_start=False).open("sales", ONE)


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


def test_a_keyring_lets_go_of_a_destroyed_key_within_a_second(root: RootFiles) -> None:
    now = 0.0
    keyring = Keyring(root, clock=lambda: now)
    root.create("sales", ONE)
    assert keyring.get("sales", ONE) is keyring.get("sales", ONE)
    root.destroy(ONE)
    now = 1.0
    with pytest.raises(VaultKeyUnavailable, match="destroyed"):
        keyring.get("sales", ONE)
