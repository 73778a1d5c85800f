"""The first root of the trust metadata, read back by the library that members use."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat
from securesystemslib.signer import CryptoSigner, Signature
from tuf.api.exceptions import UnsignedMetadataError
from tuf.api.metadata import Metadata, Root, Timestamp
from tuf.ngclient._internal.trusted_metadata_set import TrustedMetadataSet
from tuf.ngclient.config import EnvelopeType

from keyreeve_ca.authorities import trust_metadata
from keyreeve_chassis.keys.key_types import KeyType
from keyreeve_chassis.keys.ports import KeyStoreError
from keyreeve_chassis.keys.sealed import SealedKeyStore

NOW = 1_800_000_000
STORE = SealedKeyStore(b"k" * 32, "keyreeve-ca")


def test_the_first_root_verifies_names_its_keys_and_lives_90_days(tmp_path):
    body, online = trust_metadata.first(tmp_path / "recovery.pem", STORE, NOW)
    metadata = Metadata[Root].from_bytes(body)
    root = metadata.signed
    root.verify_delegate("root", metadata.signed_bytes, metadata.signatures)
    assert root.version == 1
    assert root.expires == datetime.fromtimestamp(NOW, UTC) + timedelta(days=90)
    assert {role: (len(held.keyids), held.threshold) for role, held in root.roles.items()} == {
        "root": (1, 1), "targets": (1, 1), "snapshot": (1, 1), "timestamp": (1, 1),
    }  # fmt: skip
    assert len(online) == len({key.spki for key in online}) == 3
    assert len(root.keys) == 4


def test_online_keys_from_the_store_sign_their_own_roles_and_no_other(tmp_path):
    body, online = trust_metadata.first(tmp_path / "recovery.pem", STORE, NOW)
    root = Metadata[Root].from_bytes(body).signed
    message = Metadata(Timestamp(expires=datetime.fromtimestamp(NOW, UTC))).signed_bytes
    for role, key in zip(trust_metadata.ONLINE_ROLES, online, strict=True):
        signature = STORE.open(key).sign(message)
        (key_id,) = root.roles[role].keyids
        signed = {key_id: _signature(key_id, signature)}
        root.verify_delegate(role, message, signed)
        for other in {"root", *trust_metadata.ONLINE_ROLES} - {role}:
            with pytest.raises(UnsignedMetadataError):
                root.verify_delegate(other, message, signed)


def _signature(key_id, signature):
    return Signature(key_id, signature.hex())


def test_several_recovery_keys_of_both_kinds_make_an_m_of_n_root():
    signers = [
        CryptoSigner(ed25519.Ed25519PrivateKey.generate()),
        CryptoSigner(ec.generate_private_key(ec.SECP256R1())),
    ]
    signers.append(CryptoSigner(ed25519.Ed25519PrivateKey.generate()))
    online = [STORE.generate(KeyType.P256).spki for _ in range(3)]
    body = trust_metadata.first_root(signers, online, NOW, threshold=2)
    metadata = Metadata[Root].from_bytes(body)
    assert metadata.signed.roles["root"].threshold == 2
    first, second, third = metadata.signatures.values()
    metadata.signed.verify_delegate("root", metadata.signed_bytes, {s.keyid: s for s in (second, third)})
    with pytest.raises(UnsignedMetadataError):
        metadata.signed.verify_delegate("root", metadata.signed_bytes, {first.keyid: first})
    with pytest.raises(UnsignedMetadataError):
        trust_metadata.first_root(signers, online, NOW, threshold=4)


def test_the_recovery_key_is_private_and_survives_a_start_that_was_cut_short(tmp_path):
    path = tmp_path / "recovery.pem"
    body, _ = trust_metadata.first(path, STORE, NOW)
    assert path.stat().st_mode & 0o777 == 0o600
    again, _ = trust_metadata.first(path, STORE, NOW)
    keyids = [json.loads(each)["signed"]["roles"]["root"]["keyids"] for each in (body, again)]
    assert keyids[0] == keyids[1]
    path.chmod(0o644)
    with pytest.raises(KeyStoreError, match="recovery key"):
        trust_metadata.first(path, STORE, NOW)


def test_a_recovery_file_that_holds_no_key_is_refused(tmp_path):
    for number, content in enumerate((b"", b"not a key", _encrypted())):
        path = tmp_path / str(number)
        path.touch(0o600)
        path.write_bytes(content)
        with pytest.raises(KeyStoreError, match="unencrypted private key"):
            trust_metadata.read_recovery_key_file(path)


def _encrypted():
    key = ed25519.Ed25519PrivateKey.generate()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))


def test_the_librarys_own_client_takes_the_root_as_its_anchor(tmp_path):
    body, _ = trust_metadata.first(tmp_path / "recovery.pem", STORE, NOW)
    trusted = TrustedMetadataSet(body, EnvelopeType.METADATA)
    assert trusted.root.version == 1
