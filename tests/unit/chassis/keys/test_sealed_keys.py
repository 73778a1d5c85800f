"""The sealed key store: signing keys, seals bound to their purpose, refused key files."""

import os
import stat

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key

from keyreeve_chassis.keys.key_types import HASH, KeyType
from keyreeve_chassis.keys.ports import KeyStoreError, SealedKey, make_check_value, verify_check_value
from keyreeve_chassis.keys.sealed import SealedKeyStore, create_kek_file, read_kek_file, read_kek_mount

STORE = SealedKeyStore(b"k" * 32, "keyreeve-ca")
OTHER = SealedKeyStore(b"o" * 32, "keyreeve-ca")


def verify(spki, key_type, signature, message):
    match load_der_public_key(spki):
        case ec.EllipticCurvePublicKey() as key:
            key.verify(signature, message, ec.ECDSA(HASH[key_type]))
        case rsa.RSAPublicKey() as key:
            key.verify(signature, message, padding.PKCS1v15(), HASH[key_type])
        case ed25519.Ed25519PublicKey() as key:
            key.verify(signature, message)


@pytest.mark.parametrize("key_type", KeyType)
def test_a_key_of_every_type_opens_and_signs(key_type):
    sealed = STORE.generate(key_type)
    signer = SealedKeyStore(b"k" * 32, "keyreeve-ca").open(sealed)
    assert signer.key_type is key_type
    assert signer.spki == sealed.spki
    signature = signer.sign(b"message")
    verify(sealed.spki, key_type, signature, b"message")
    with pytest.raises(InvalidSignature):
        verify(sealed.spki, key_type, signature, b"another")


def test_each_key_has_its_own_id_and_is_sealed_under_its_own_nonce():
    keys = [STORE.generate(KeyType.P256) for _ in range(3)]
    assert len({key.key_id for key in keys}) == len({key.sealed[:12] for key in keys}) == 3


def test_a_sealed_key_does_not_open_under_another_id_type_or_store():
    one, two = STORE.generate(KeyType.P256), STORE.generate(KeyType.P256)
    for wrong in (
        SealedKey(two.key_id, KeyType.P256, one.spki, one.sealed),
        SealedKey(one.key_id, KeyType.P256, two.spki, one.sealed),
        SealedKey(one.key_id, KeyType.ED25519, one.spki, one.sealed),
        SealedKey(one.key_id, KeyType.P256, one.spki, one.sealed[:-1]),
        SealedKey(one.key_id, KeyType.P256, one.spki, b""),
    ):
        with pytest.raises(KeyStoreError):
            STORE.open(wrong)
    with pytest.raises(KeyStoreError, match="does not open"):
        OTHER.open(one)


@pytest.mark.parametrize("secret", [b"", b"s" * 32, bytes(4096)])
def test_a_seal_opens_for_its_kind_and_identifier_alone(secret):
    sealed = STORE.seal("seed", "17", secret)
    assert STORE.unseal("seed", "17", sealed) == secret
    for kind, identifier in (("key", "17"), ("seed", "18"), ("see", "d17"), ("seed1", "7"), ("", "seed17")):
        with pytest.raises(KeyStoreError):
            STORE.unseal(kind, identifier, sealed)


def test_no_changed_octet_of_a_seal_opens():
    sealed = STORE.seal("seed", "17", b"secret")
    for position in range(len(sealed)):
        changed = bytearray(sealed)
        changed[position] ^= 1
        with pytest.raises(KeyStoreError):
            STORE.unseal("seed", "17", bytes(changed))


def test_derived_secrets_depend_on_the_store_and_the_label_alone():
    assert STORE.derive("nonces") == SealedKeyStore(b"k" * 32, "keyreeve-ca").derive("nonces")
    assert len({STORE.derive("nonces"), STORE.derive("pages"), OTHER.derive("nonces"), b"k" * 32}) == 4
    assert len(STORE.derive("nonces")) == 32


def test_the_check_value_tells_one_store_from_another():
    value = make_check_value(STORE)
    verify_check_value(SealedKeyStore(b"k" * 32, "keyreeve-ca"), value)
    with pytest.raises(KeyStoreError, match="not the one that sealed this ledger") as refused:
        verify_check_value(OTHER, value)
    assert "key-encryption key that belongs to this database" in refused.value.fix


def test_nothing_secret_is_in_what_is_printed():
    sealed = STORE.generate(KeyType.P256)
    shown = repr(sealed) + repr(STORE) + repr(STORE.open(sealed)) + str(sealed)
    assert "kkkk" not in shown
    assert repr(sealed.sealed)[2:20] not in shown


# --- the key-encryption key's file ----------------------------------------------------------------------------------


def test_a_new_key_file_is_private_random_and_never_overwritten(tmp_path):
    umask = os.umask(0)
    try:
        create_kek_file(tmp_path / "kek")
        create_kek_file(tmp_path / "other")
    finally:
        os.umask(umask)
    assert stat.S_IMODE((tmp_path / "kek").stat().st_mode) == 0o600
    kek = read_kek_file(tmp_path / "kek")
    assert len(kek) == 32
    assert kek != read_kek_file(tmp_path / "other")
    with pytest.raises(KeyStoreError, match="exists"):
        create_kek_file(tmp_path / "kek")
    assert read_kek_file(tmp_path / "kek") == kek


def test_a_key_file_cannot_be_made_through_a_link_or_in_no_directory(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with pytest.raises(KeyStoreError, match="exists"):
        create_kek_file(tmp_path / "link")
    with pytest.raises(KeyStoreError, match="cannot be made"):
        create_kek_file(tmp_path / "missing" / "kek")
    assert [entry.name for entry in tmp_path.iterdir()] == ["link"]


def test_a_crash_while_a_key_file_is_made_leaves_nothing_under_its_name(tmp_path, monkeypatch):
    def crash(_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", crash)
        with pytest.raises(KeyboardInterrupt):
            create_kek_file(tmp_path / "kek")
    assert not (tmp_path / "kek").exists()
    create_kek_file(tmp_path / "kek")
    assert len(read_kek_file(tmp_path / "kek")) == 32


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o700, 0o644, 0o666])
def test_a_key_file_that_others_may_touch_is_refused(tmp_path, mode):
    path = tmp_path / "kek"
    create_kek_file(path)
    path.chmod(mode)
    with pytest.raises(KeyStoreError, match=f"mode 0{mode:o}") as refused:
        read_kek_file(path)
    assert f"chmod 600 {path}" in refused.value.fix


def test_a_key_file_that_may_only_be_read_is_good(tmp_path):
    create_kek_file(tmp_path / "kek")
    (tmp_path / "kek").chmod(0o400)
    assert len(read_kek_file(tmp_path / "kek")) == 32


@pytest.mark.parametrize("size", [0, 31, 33, 64, 100_000])
def test_a_key_file_of_another_size_is_refused(tmp_path, size):
    path = tmp_path / "kek"
    path.touch(0o600)
    path.write_bytes(bytes(size))
    for read in (read_kek_file, read_kek_mount):
        with pytest.raises(KeyStoreError, match="exactly 32 bytes"):
            read(path)


def test_what_is_no_plain_file_is_refused(tmp_path):
    create_kek_file(tmp_path / "kek")
    (tmp_path / "link").symlink_to(tmp_path / "kek")
    os.mkfifo(tmp_path / "pipe", 0o600)
    (tmp_path / "directory").mkdir(0o700)
    with pytest.raises(KeyStoreError, match="is a symbolic link"):
        read_kek_file(tmp_path / "link")
    for name, match in (("pipe", "not a plain file"), ("directory", "not a plain file"), ("missing", "is missing")):
        for read in (read_kek_file, read_kek_mount):
            with pytest.raises(KeyStoreError, match=match):
                read(tmp_path / name)


def test_a_key_file_of_another_users_is_refused(tmp_path, monkeypatch):
    create_kek_file(tmp_path / "kek")
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(KeyStoreError, match="belongs to user"):
        read_kek_file(tmp_path / "kek")


def test_a_mounted_secret_may_be_a_link_that_a_group_reads(tmp_path):
    """As Kubernetes mounts it: kek -> ..data/kek -> ..2027_01_15/kek, mode 0440."""
    (tmp_path / "..2027_01_15").mkdir()
    create_kek_file(tmp_path / "..2027_01_15" / "kek")
    (tmp_path / "..2027_01_15" / "kek").chmod(0o440)
    (tmp_path / "..data").symlink_to("..2027_01_15")
    (tmp_path / "kek").symlink_to("..data/kek")
    assert len(read_kek_mount(tmp_path / "kek")) == 32
    with pytest.raises(KeyStoreError):
        read_kek_file(tmp_path / "kek")


@pytest.mark.parametrize("mode", [0o444, 0o460, 0o604])
def test_a_mounted_secret_that_is_world_readable_or_group_writable_is_refused(tmp_path, mode):
    create_kek_file(tmp_path / "kek")
    (tmp_path / "kek").chmod(mode)
    with pytest.raises(KeyStoreError, match="mode"):
        read_kek_mount(tmp_path / "kek")


def test_a_store_needs_a_whole_key():
    with pytest.raises(ValueError, match="32 bytes"):
        SealedKeyStore(b"short", "keyreeve-ca")
