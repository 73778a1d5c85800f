"""What every root provider promises: keys that are created once, opened at their place, and destroyed for good."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidTag

from keyreeve.errors import StoreUnavailable, VaultKeyUnavailable
from keyreeve_chassis.keys.ports import KeyStoreError
from keyreeve_chassis.kubernetes.api_server import ApiAccess, BlockingApi
from keyreeve_credentials.keys.keyring import Keyring
from keyreeve_credentials.keys.ports import Kek, KekState, RootProvider
from keyreeve_credentials.keys.roots.check import check_root
from keyreeve_credentials.keys.roots.files import open_root_files
from keyreeve_credentials.keys.roots.secrets import open_root_secrets
from support.token_reviews import ApiServer, api_server

ONE, TWO, THREE = "1" * 32, "2" * 32, "3" * 32
SECRETS = "/api/v1/namespaces/vault-keys/secrets"


@dataclass(frozen=True)
class Kept:
    """Where a provider keeps its keys, with what can go wrong there."""

    open: Callable[[], RootProvider]
    copy: Callable[[str, str], None]
    """The bytes of one key under another id."""
    replace_root: Callable[[], None]


def in_files(directory: Path) -> Kept:
    open_root_files(directory, first_start=True)

    def copy(source: str, target: str) -> None:
        os.link(directory / f"{source}.kek", directory / f"{target}.kek")

    return Kept(
        lambda: open_root_files(directory, first_start=False),
        copy,
        lambda: (directory / "root").write_bytes(bytes(32)) and None,
    )


def in_secrets(api: ApiServer, directory: Path) -> Kept:
    root = directory / "root"
    root.write_bytes(os.urandom(32))
    root.chmod(0o400)
    access = ApiAccess(api.url, api.ca_file, api.token_file)

    def copy(source: str, target: str) -> None:
        data = dict(api.objects[f"{SECRETS}/keyreeve-kek-{source}"]["data"])
        api.objects[f"{SECRETS}/keyreeve-kek-{target}"] = {"type": "keyreeve/kek", "data": data}

    def replace_root() -> None:
        root.chmod(0o600)
        root.write_bytes(bytes(32))

    return Kept(lambda: open_root_secrets(BlockingApi(access), "vault-keys", root), copy, replace_root)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with api_server(tmp_path_factory.mktemp("api")) as server:
        yield server


@pytest.fixture
def api(server: ApiServer) -> ApiServer:
    server.objects.clear()
    server.answers = 201
    return server


@pytest.fixture(params=["files", "secrets"])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Kept:
    if request.param == "files":
        return in_files(tmp_path / "keys")
    return in_secrets(request.getfixturevalue("api"), tmp_path)


@pytest.fixture
def root(kept: Kept) -> RootProvider:
    return kept.open()


def test_a_key_is_the_same_for_every_replica(kept: Kept, root: RootProvider) -> None:
    root.create("sales", ONE)
    another = kept.open()
    sealed = root.open("sales", ONE).encrypt(bytes(12), b"text", b"aad")
    assert another.open("sales", ONE).decrypt(bytes(12), sealed, b"aad") == b"text"
    assert another.list() == [ONE]


def test_two_keys_are_different(root: RootProvider) -> None:
    for kek_id in (ONE, TWO):
        root.create("sales", kek_id)
    sealed = root.open("sales", ONE).encrypt(bytes(12), b"text", None)
    with pytest.raises(InvalidTag):
        root.open("sales", TWO).decrypt(bytes(12), sealed, None)


def test_a_destroyed_key_is_gone_for_good(kept: Kept, root: RootProvider) -> None:
    root.create("sales", ONE)
    assert not root.confirm(ONE)
    root.destroy(ONE)
    root.destroy(ONE)
    for replica in (root, kept.open()):
        assert replica.confirm(ONE)
        assert replica.list() == []
        for act in (replica.open, replica.create):
            with pytest.raises(VaultKeyUnavailable, match="destroyed"):
                act("sales", ONE)


def test_a_key_that_never_was_is_not_confirmed_as_destroyed(root: RootProvider) -> None:
    assert not root.confirm(ONE)
    with pytest.raises(VaultKeyUnavailable, match="does not open"):
        root.open("sales", ONE)


def test_a_destroyed_key_that_never_was_is_never_made(root: RootProvider) -> None:
    root.destroy(ONE)
    assert root.confirm(ONE)
    with pytest.raises(VaultKeyUnavailable, match="destroyed"):
        root.create("sales", ONE)


def test_a_key_is_not_made_twice(root: RootProvider) -> None:
    root.create("sales", ONE)
    before = root.open("sales", ONE).encrypt(bytes(12), b"text", None)
    with pytest.raises(VaultKeyUnavailable):
        root.create("sales", ONE)
    assert root.open("sales", ONE).decrypt(bytes(12), before, None) == b"text"


def test_a_key_does_not_open_for_another_array_nor_under_another_id(kept: Kept, root: RootProvider) -> None:
    root.create("sales", ONE)
    kept.copy(ONE, TWO)
    for array, kek_id in (("finance", ONE), ("sales", TWO)):
        with pytest.raises(VaultKeyUnavailable, match="does not open"):
            root.open(array, kek_id)


def test_another_root_key_opens_nothing(kept: Kept, root: RootProvider) -> None:
    root.create("sales", ONE)
    kept.replace_root()
    with pytest.raises(VaultKeyUnavailable, match="does not open"):
        kept.open().open("sales", ONE)


def test_a_root_key_that_did_not_seal_the_known_keys_stops_the_start(kept: Kept, root: RootProvider) -> None:
    known = [Kek(kek_id, "sales", number, KekState.WRITER, 0, 0, 0) for number, kek_id in enumerate((ONE, TWO))]
    check_root(root, [])
    root.destroy(THREE)
    check_root(root, [Kek(THREE, "sales", 1, KekState.WRITER, 0, 0, 0)])
    with pytest.raises(KeyStoreError, match="none of the 2 key-encryption keys"):
        check_root(root, known)
    root.create("sales", TWO)
    check_root(kept.open(), known)
    kept.replace_root()
    with pytest.raises(KeyStoreError, match="Restore the root key"):
        check_root(kept.open(), known)
    check_root(kept.open(), [replace(kek, state=KekState.DESTROYED) for kek in known])


@pytest.mark.parametrize("kek_id", ["", "../root", "A" * 32, "1" * 31, f"{ONE}?x", f"{ONE}\n"])
def test_an_id_that_is_no_id_is_refused(root: RootProvider, kek_id: str) -> None:
    for act in (lambda: root.create("sales", kek_id), lambda: root.open("sales", kek_id), lambda: root.destroy(kek_id)):
        with pytest.raises(VaultKeyUnavailable, match="hexadecimal"):
            act()


def test_a_keyring_lets_go_of_a_destroyed_key_within_a_second(root: RootProvider) -> None:
    now = 0.0
    keyring = Keyring(root, clock=lambda: now)
    root.create("sales", ONE)
    assert keyring.get("sales", ONE) is keyring.get("sales", ONE)
    root.destroy(ONE)
    now = 1.0
    with pytest.raises(VaultKeyUnavailable, match="destroyed"):
        keyring.get("sales", ONE)


def test_a_keyring_that_looks_again_lets_go_at_once(root: RootProvider) -> None:
    keyring = Keyring(root, clock=lambda: 0.0)
    root.create("sales", ONE)
    keyring.get("sales", ONE)
    root.destroy(ONE)
    keyring.look_again()
    with pytest.raises(VaultKeyUnavailable, match="destroyed"):
        keyring.get("sales", ONE)


def test_a_list_goes_through_all_pages(api: ApiServer, tmp_path: Path) -> None:
    root = in_secrets(api, tmp_path).open()
    ids = [f"{number:032x}" for number in range(501)]
    for kek_id in ids:
        api.objects[f"{SECRETS}/keyreeve-kek-{kek_id}"] = {
            "type": "keyreeve/kek",
            "metadata": {"name": f"keyreeve-kek-{kek_id}"},
            "data": {"kek": "AA=="},
        }
    api.objects[f"{SECRETS}/other"] = {"type": "Opaque", "metadata": {"name": "other"}, "data": {}}
    assert root.list() == ids


@pytest.mark.parametrize("answers", [401, 403, 503])
def test_an_api_server_that_refuses_confirms_nothing_and_calls_may_be_repeated(
    api: ApiServer, tmp_path: Path, answers: int
) -> None:
    root = in_secrets(api, tmp_path).open()
    root.create("sales", ONE)
    now = 0.0
    keyring = Keyring(root, clock=lambda: now)
    keyring.get("sales", ONE)
    api.answers = answers
    now = 1.0
    for act in (
        lambda: root.create("sales", TWO),
        lambda: root.open("sales", ONE),
        lambda: root.destroy(ONE),
        lambda: root.confirm(ONE),
        lambda: keyring.get("sales", ONE),
    ):
        with pytest.raises(StoreUnavailable, match=str(answers)):
            act()
    api.answers = 201
    keyring.look_again()
    assert keyring.get("sales", ONE).encrypt(bytes(12), b"text", None)


def test_an_api_server_of_another_ca_is_told_nothing(api: ApiServer, tmp_path: Path) -> None:
    (tmp_path / "untrusted").mkdir()
    root_key = tmp_path / "root"
    root_key.write_bytes(bytes(32))
    root_key.chmod(0o400)
    with api_server(tmp_path / "untrusted") as untrusted:
        access = ApiAccess(untrusted.url, api.ca_file, api.token_file)
        root = open_root_secrets(BlockingApi(access), "vault-keys", root_key)
        with pytest.raises(StoreUnavailable, match="does not answer"):
            root.create("sales", ONE)
        assert not untrusted.objects


@pytest.mark.parametrize("content", [b"", bytes(31), bytes(33)])
def test_a_mounted_root_key_of_another_length_is_refused(api: ApiServer, tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "root"
    file.write_bytes(content)
    file.chmod(0o400)
    access = ApiAccess(api.url, api.ca_file, api.token_file)
    with pytest.raises(KeyStoreError, match="32 bytes"):
        open_root_secrets(BlockingApi(access), "vault-keys", file)
