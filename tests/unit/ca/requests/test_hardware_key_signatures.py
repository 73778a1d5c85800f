"""Signatures of hardware keys: the same ones are accepted as by OpenSSH, and no others."""

import subprocess
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from hypothesis import given
from hypothesis import strategies as st

from keyreeve_ca.requests.device_signature import LARGEST, verify_touch
from keyreeve_ca.requests.key_rules import KnownKeys
from keyreeve_ca.requests.openssh_keys import OperatorKey, read_operator_key
from support.device import Device, armored
from support.programs import needs

NAMESPACE = "keyreeve-renew-1"
MESSAGE = b"what is signed"
DEVICES = {
    "ed25519": Device(ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32)))),
    "p256": Device(ec.derive_private_key(0x1234567, ec.SECP256R1()), b"ssh:work"),
}


def key_of(device: Device) -> OperatorKey:
    return read_operator_key(device.line, KnownKeys())


def taken(envelope: bytes, *devices: Device, message: bytes = MESSAGE, namespace: str = NAMESPACE) -> bool:
    try:
        verify_touch(envelope, message, namespace, [key_of(device) for device in devices])
    except InvalidSignature:
        return False
    return True


@pytest.mark.parametrize("kind", DEVICES)
@pytest.mark.parametrize("digest", ["sha256", "sha512"])
def test_a_touch_of_one_of_the_keys_is_known_as_that_keys(kind: str, digest: str) -> None:
    device = DEVICES[kind]
    keys = [key_of(each) for each in DEVICES.values()]
    assert verify_touch(device.sign(MESSAGE, digest=digest), MESSAGE, NAMESPACE, keys) == key_of(device)


@needs("ssh-keygen")
@pytest.mark.parametrize("kind", DEVICES)
def test_openssh_takes_what_the_tests_sign(kind: str, tmp_path: Path) -> None:
    device = DEVICES[kind]
    (tmp_path / "allowed").write_text(f"bea {device.line}\n")
    (tmp_path / "signature").write_text(armored(device.sign(MESSAGE)))
    command = ["ssh-keygen", "-Y", "verify", "-f", "allowed", "-I", "bea", "-n", NAMESPACE, "-s", "signature"]
    done = subprocess.run(command, cwd=tmp_path, input=MESSAGE, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("kind", DEVICES)
def test_anything_else_is_refused(kind: str) -> None:
    device, other = DEVICES[kind], Device(ed25519.Ed25519PrivateKey.generate())
    good = device.sign(MESSAGE)
    assert taken(good, device)
    assert not taken(good, other), "the key of another person"
    assert not taken(good)
    assert not taken(good, device, message=MESSAGE + b"!")
    assert not taken(good, device, namespace="file")
    assert not taken(device.sign(MESSAGE, namespace="file"), device)
    assert not taken(device.sign(MESSAGE, flags=0), device), "it was not touched"
    assert not taken(device.sign(MESSAGE, digest="sha1"), device)
    assert not taken(Device(device.key, b"ssh:other").sign(MESSAGE), device)
    assert not taken(good + bytes(LARGEST), device)
    assert not taken(b"", device)


def test_a_key_in_a_file_is_no_device() -> None:
    file = OperatorKey("ssh-ed25519", DEVICES["ed25519"].blob)
    with pytest.raises(InvalidSignature):
        verify_touch(DEVICES["ed25519"].sign(MESSAGE), MESSAGE, NAMESPACE, [file])


@pytest.mark.parametrize("kind", DEVICES)
def test_no_changed_octet_and_no_shorter_signature_passes(kind: str) -> None:
    device, good = DEVICES[kind], DEVICES[kind].sign(MESSAGE)
    for position in range(len(good)):
        for change in (0x01, 0x80):
            changed = bytearray(good)
            changed[position] ^= change
            assert not taken(bytes(changed), device), position
        assert not taken(good[:position], device)


@given(st.binary(max_size=200), st.booleans())
def test_whatever_comes_is_refused_and_breaks_nothing(noise: bytes, begins_well: bool) -> None:
    start = DEVICES["ed25519"].sign(MESSAGE)[: 10 + len(noise)] if begins_well else b""
    assert not taken(start + noise, DEVICES["ed25519"])
