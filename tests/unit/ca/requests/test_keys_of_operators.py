"""Public keys of operators: accepted and refused formats; a refusal never repeats the input."""

import base64
import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, ssh_key_fingerprint
from hypothesis import given
from hypothesis import strategies as st

from keyreeve.errors import FieldInvalid, KeyBlocked, KeyreeveError, KeyTypeRefused, KeyWeak
from keyreeve_ca.requests.key_rules import KnownKeys
from keyreeve_ca.requests.openssh_keys import OperatorKey, read_operator_key, stored_key
from support.rsa_keys import shared_rsa_key

NOBODYS = KnownKeys()


def line_of(key) -> str:
    """The line of a public key, as another library writes it."""
    return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


ED25519 = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
P256 = ec.derive_private_key(7**40, ec.SECP256R1())
RSA = shared_rsa_key(2048)


def packed(*fields: bytes) -> bytes:
    return b"".join(len(f).to_bytes(4, "big") + f for f in fields)


def blob_of(line: str) -> bytes:
    return base64.b64decode(line.split(" ")[1])


def device_line(application: bytes = b"ssh:", algorithm: str = "sk-ssh-ed25519@openssh.com") -> str:
    if "ed25519" in algorithm:
        blob = packed(algorithm.encode(), blob_of(line_of(ED25519))[-32:], application)
    else:
        blob = packed(algorithm.encode(), b"nistp256", blob_of(line_of(P256))[-65:], application)
    return f"{algorithm} {base64.b64encode(blob).decode()} bea@laptop"


@pytest.mark.parametrize("key", [ED25519, P256, RSA], ids=["ed25519", "p256", "rsa"])
def test_a_key_is_read_and_written_back_the_same_and_named_as_another_library_names_it(key) -> None:
    for line in (line_of(key), f"{line_of(key)} bea's laptop, ä"):
        read = read_operator_key(line, NOBODYS)
        assert read.line == line
        assert stored_key(line) == read
        assert not read.hardware
        digest = ssh_key_fingerprint(key.public_key(), SHA256())
        assert read.fingerprint == "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


@pytest.mark.parametrize("algorithm", ["sk-ssh-ed25519@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com"])
def test_a_key_in_a_device_is_known_as_such(algorithm: str) -> None:
    read = read_operator_key(device_line(algorithm=algorithm), NOBODYS)
    assert read.hardware
    assert read.line == device_line(algorithm=algorithm)
    for application in (b"", b"https://example.test", b"ssh:\n", b"ssh:\xff"):
        with pytest.raises(FieldInvalid, match="device"):
            read_operator_key(device_line(application, algorithm), NOBODYS)


def small_rsa() -> str:
    return line_of(rsa.generate_private_key(65537, 1024))


REFUSED = {
    "DSA": (lambda: "ssh-dss AAAA", KeyTypeRefused),
    "P-384": (lambda: line_of(ec.generate_private_key(ec.SECP384R1())), KeyTypeRefused),
    "RSA of 1024 bits": (small_rsa, KeyTypeRefused),
    "an RSA exponent of 3": (lambda: line_of(rsa.generate_private_key(3, 2048)), KeyWeak),
    "options": (lambda: f'command="true" {line_of(ED25519)}', KeyTypeRefused),
    "a certificate": (lambda: "ssh-ed25519-cert-v01@openssh.com AAAA", KeyTypeRefused),
    "no key": (lambda: "ssh-ed25519", FieldInvalid),
    "nothing": (lambda: "", KeyTypeRefused),
    "two lines": (lambda: f"{line_of(ED25519)}\n{line_of(P256)}", FieldInvalid),
    "a line's end": (lambda: f"{line_of(ED25519)}\n", FieldInvalid),
    "two spaces": (lambda: line_of(ED25519).replace(" ", "  "), FieldInvalid),
    "a space at the end": (lambda: f"{line_of(ED25519)}  ", FieldInvalid),
    "a long comment": (lambda: f"{line_of(ED25519)} {'x' * 101}", FieldInvalid),
    "a long line": (lambda: f"{line_of(ED25519)} {'x' * 3000}", FieldInvalid),
    "another algorithm inside": (lambda: line_of(ED25519).replace("ssh-ed25519", "ssh-rsa"), FieldInvalid),
    "base64 in another form": (lambda: line_of(ED25519) + "====", FieldInvalid),
    "more behind it": (lambda: with_blob("ssh-ed25519", blob_of(line_of(ED25519)) + b"x"), FieldInvalid),
    "less of it": (lambda: with_blob("ssh-ed25519", blob_of(line_of(ED25519))[:-1]), FieldInvalid),
    "31 octets": (lambda: with_blob("ssh-ed25519", packed(b"ssh-ed25519", bytes(31))), FieldInvalid),
    "a point of small order": (lambda: with_blob("ssh-ed25519", packed(b"ssh-ed25519", bytes(32))), KeyWeak),
    "a point beside the curve": (
        lambda: with_blob("ecdsa-sha2-nistp256", packed(b"ecdsa-sha2-nistp256", b"nistp256", b"\4" + bytes(64))),
        KeyWeak,
    ),
    "a compressed point": (
        lambda: with_blob("ecdsa-sha2-nistp256", packed(b"ecdsa-sha2-nistp256", b"nistp256", b"\2" + bytes(32))),
        FieldInvalid,
    ),
    "a padded number": (
        lambda: with_blob("ssh-rsa", packed(b"ssh-rsa", b"\0\1\0\1", blob_of(line_of(RSA))[-257:])),
        FieldInvalid,
    ),
    "an even modulus": (
        lambda: with_blob("ssh-rsa", packed(b"ssh-rsa", b"\1\0\1", b"\0" + (2**2047).to_bytes(256))),
        KeyWeak,
    ),
    "a private key": (lambda: "-----BEGIN OPENSSH PRIVATE KEY-----", KeyTypeRefused),
}


def with_blob(algorithm: str, blob: bytes) -> str:
    return f"{algorithm} {base64.b64encode(blob).decode()}"


@pytest.mark.parametrize("what", REFUSED)
def test_whatever_is_no_good_key_in_its_one_form_is_refused(what: str) -> None:
    make, expected = REFUSED[what]
    with pytest.raises(expected) as refused:
        read_operator_key(make(), NOBODYS, "keys[3]")
    assert type(refused.value) is expected
    if expected is not KeyWeak:
        assert "keys[3]" in str(refused.value)


def test_a_blocked_key_and_the_cas_own_are_refused() -> None:
    spki = P256.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    digest = hashlib.sha256(spki).digest()
    for known in (KnownKeys(blocked={digest}), KnownKeys(own={digest})):
        with pytest.raises(KeyBlocked):
            read_operator_key(line_of(P256), known)


@pytest.mark.parametrize("secret", ["hunter2hunter2", "hunter2hunter2 hunter2hunter2", "ssh-ed25519 hunter2hunter2!"])
def test_a_refusal_does_not_repeat_what_was_sent(secret: str) -> None:
    with pytest.raises(KeyreeveError) as refused:
        read_operator_key(secret, NOBODYS)
    told = f"{refused.value} {refused.value.metadata} {refused.value.violations}"
    assert "hunter2" not in told


@given(st.data())
def test_changed_bytes_are_a_key_that_reads_back_the_same_or_a_refusal(data: st.DataObject) -> None:
    line = data.draw(st.sampled_from([line_of(ED25519), line_of(P256), line_of(RSA), device_line()]))
    blob = bytearray(blob_of(line))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(blob) - 1))
        blob[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
        if not blob:
            return
    try:
        read = read_operator_key(with_blob(line.split(" ")[0], bytes(blob)), NOBODYS)
    except KeyreeveError:
        return
    assert read == OperatorKey(line.split(" ")[0], bytes(blob))
    assert stored_key(read.line) == read
