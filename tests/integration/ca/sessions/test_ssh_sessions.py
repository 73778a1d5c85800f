"""Sessions by SSH logins: keys and certificates that the real ssh-keygen makes, over real mutual TLS on both databases."""

import base64
import secrets
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import load_ssh_private_key

from keyreeve import errors
from keyreeve.length_prefix import length_prefixed
from keyreeve.session_values import SessionMethod, SshProof
from keyreeve_ca.requests.ssh_logins import login_message
from support.device import Device
from support.gateway_sessions import Gateway
from support.running_ca import ADMIN, AUDITOR, OPERATOR, RunningCa, refused, unique
from support.waiting import wait_for

pytestmark = pytest.mark.sqlite_first


def keygen(*arguments: str) -> None:
    subprocess.run(["ssh-keygen", "-q", *arguments], check=True, capture_output=True)


def new_key(directory: Path, kind: str = "ed25519", *options: str) -> Path:
    path = directory / unique(kind)
    keygen("-t", kind, *options, "-N", "", "-C", "a test", "-f", str(path))
    return path


def line_of(path: Path) -> str:
    return path.with_name(path.name + ".pub").read_text().strip()


def certified(key: Path, authority: Path, *options: str, names: str) -> Path:
    keygen("-s", str(authority), "-I", "a-test", *(("-n", names) if names else ()), *options, str(key) + ".pub")
    return key.with_name(key.name + "-cert.pub")


def login(key: Path, user: str, *, certificate: Path | None = None, algorithm: str = "") -> SshProof:
    """What an SSH client signs to log in at a new session."""
    name, encoded, *_ = (certificate.read_text() if certificate else line_of(key)).split()
    if name.startswith("ssh-rsa"):
        name = name.replace("ssh-rsa", "rsa-sha2-512")
    proof = SshProof(secrets.token_bytes(32), user, algorithm or name, base64.b64decode(encoded), b"")
    return sign(key, proof)


def mpint(number: int) -> bytes:
    return number.to_bytes(number.bit_length() // 8 + 1, "big")


def sign(key: Path, proof: SshProof) -> SshProof:
    private = load_ssh_private_key(key.read_bytes(), None)
    message, plain = login_message(proof), proof.algorithm.removesuffix("-cert-v01@openssh.com").encode()
    match private:
        case ed25519.Ed25519PrivateKey():
            raw = private.sign(message)
        case ec.EllipticCurvePrivateKey():
            raw = length_prefixed(*map(mpint, decode_dss_signature(private.sign(message, ec.ECDSA(hashes.SHA256())))))
        case rsa.RSAPrivateKey():
            kind = hashes.SHA256() if plain == b"rsa-sha2-256" else hashes.SHA512()
            raw = private.sign(message, padding.PKCS1v15(), kind)
        case _:
            raise AssertionError(type(private))
    return replace(proof, signature=length_prefixed(plain, raw))


class LoggingIn:
    """An operator with a record of their own."""

    def __init__(self, ca: RunningCa, role: str = "operator") -> None:
        self.ca, self.name, self.gateway = ca, unique("ssh"), Gateway(ca)
        self.path = f"operators/{role}/{self.name}"
        ca.know(self.path)

    def register(self, key: Path, *, authority: bool = False) -> str:
        made = self.ca.client(ADMIN).operators.register_ssh_key(
            self.name, line_of(key), certificate_authority=authority
        )
        return made.key.fingerprint


@pytest.mark.parametrize(
    "kind", [("ed25519",), ("ecdsa", "-b", "256"), ("rsa", "-b", "2048")], ids=lambda kind: kind[0]
)
def test_a_registered_key_opens_a_session_of_its_person_once(
    sqlite_ca: RunningCa, tmp_path: Path, kind: tuple[str, ...]
) -> None:
    person, key = LoggingIn(sqlite_ca), new_key(tmp_path, *kind)
    sessions = person.gateway.client.sessions
    assert isinstance(refused(lambda: sessions.open(login(key, person.name))), errors.SessionProofRefused)
    fingerprint = person.register(key)
    proof = login(key, person.name)
    opened = sessions.open(proof)
    assert opened.session.identity == sqlite_ca.identity(person.path)
    assert (opened.session.method, opened.session.credential) == (SessionMethod.SSH_KEY, fingerprint)
    person.gateway.on_behalf(opened).sessions.renew()
    assert isinstance(refused(lambda: sessions.open(proof)), errors.SessionProofUsed)
    sessions.open(login(key, "admin"))  # a role word says nothing: the person's own role counts
    other_session = replace(login(key, person.name), session_id=bytes(32))
    for bad in (
        replace(proof, signature=proof.signature[:-1]),
        other_session,
        replace(proof, session_id=b"short"),
        replace(proof, public_key=b"\xff\xff\xff\xff"),
        replace(proof, algorithm="ssh-dss"),
        login(key, "ann"),
        login(new_key(tmp_path), person.name),
    ):
        assert isinstance(refused(lambda bad=bad: sessions.open(bad)), errors.SessionProofRefused)


def test_a_certificate_of_a_registered_ca_opens_a_session_of_the_person_whom_it_names(
    ca: RunningCa, tmp_path: Path
) -> None:
    person, other, authority = LoggingIn(ca), LoggingIn(ca), new_key(tmp_path)
    sessions = person.gateway.client.sessions
    person.register(authority, authority=True)
    fingerprint = other.register(authority, authority=True)

    def attempt(*options: str, names: str = f"{person.name},{other.name}", user: str = "", address: str = "") -> object:
        key = new_key(tmp_path)
        certificate = certified(key, authority, *options, names=names)
        return sessions.open(login(key, user or person.name, certificate=certificate), client_address=address).session

    hours = ("-V", "-1m:+23h")
    session = attempt(*hours)
    assert (session.identity, session.method) == (ca.identity(person.path), SessionMethod.SSH_CERTIFICATE)
    assert attempt(*hours, user=other.name).identity == ca.identity(other.path)
    assert attempt(*hours, names=other.name, user="operator").identity == ca.identity(other.path)
    assert attempt("-V", "-1m:+1h", names=person.name).ends_at < session.ends_at
    assert attempt(*hours, "-O", "source-address=203.0.113.0/24", address="203.0.113.9")
    for options, changes in (
        (("-V", "-2h:-1h"), {}),
        (("-V", "+1h:+2h"), {}),
        (("-V", "-1m:+25h"), {}),
        ((), {}),
        ((*hours, "-h"), {}),
        ((*hours, "-O", "force-command=true"), {}),
        ((*hours, "-O", "critical:other@example.test=1"), {}),
        ((*hours, "-O", "source-address=203.0.113.0/24"), {"address": "198.51.100.1"}),
        ((*hours, "-O", "source-address=203.0.113.0/24"), {"address": "nonsense"}),
        (hours, {"names": ""}),
        (hours, {"names": "nobody"}),
        (hours, {"user": "operator"}),
        (hours, {"names": "olaf", "user": "olaf"}),
    ):
        refusal = refused(lambda options=options, changes=changes: attempt(*options, **changes))
        assert isinstance(refusal, errors.SessionProofRefused), (options, changes)
    ca.client(ADMIN).operators.remove_ssh_key(other.name, fingerprint)
    assert isinstance(refused(lambda: attempt(*hours, user=other.name, names=other.name)), errors.SessionProofRefused)


def test_a_key_that_is_removed_ends_its_sessions_and_belongs_to_one_person(ca: RunningCa, tmp_path: Path) -> None:
    person, other, key = LoggingIn(ca), LoggingIn(ca), new_key(tmp_path)
    admin, fingerprint = ca.client(ADMIN).operators, person.register(key)
    assert person.register(key) == fingerprint
    assert isinstance(refused(lambda: other.register(key)), errors.KeyReused)
    ann = ca.client(ADMIN).operators
    assert isinstance(refused(lambda: ann.register_ssh_key("ann", line_of(key))), errors.SecondPersonRequired)
    assert isinstance(
        refused(lambda: ca.client(OPERATOR).operators.register_ssh_key(person.name, line_of(key))), errors.AccessDenied
    )
    for who in (ADMIN, AUDITOR, person.path):
        [shown] = ca.client(who).operators.ssh_keys(person.name)
        assert (shown.key.fingerprint, shown.certificate_authority) == (fingerprint, False)
    for who in (OPERATOR, other.path):
        operators = ca.client(who).operators
        assert isinstance(refused(lambda operators=operators: operators.ssh_keys(person.name)), errors.OperatorNotFound)
        assert isinstance(
            refused(lambda operators=operators: operators.remove_ssh_key(person.name, fingerprint)),
            errors.OperatorNotFound,
        )
    behalf = person.gateway.on_behalf(person.gateway.client.sessions.open(login(key, person.name))).sessions
    behalf.renew()
    assert isinstance(refused(lambda: admin.remove_ssh_key(person.name, "SHA256:none")), errors.SshKeyNotFound)
    ca.client(person.path).operators.remove_ssh_key(person.name, fingerprint)
    wait_for("the end of the session", lambda: isinstance(refused(behalf.renew), errors.SessionClosed))
    assert list(admin.ssh_keys(person.name)) == []


def test_a_week_after_the_last_invitation_only_a_touch_of_a_hardware_key_opens_a_session(
    own_ca: RunningCa, tmp_path: Path
) -> None:
    person, key, device = LoggingIn(own_ca), new_key(tmp_path), Device(ed25519.Ed25519PrivateKey.generate())
    person.register(key)
    own_ca.client(ADMIN).operators.register_ssh_key(person.name, device.line)
    own_ca.write(
        lambda tx: tx.operators.update(
            replace(tx.operators.find(person.name), invited_at=own_ca.clock.now() - 8 * 86_400)
        )
    )
    sessions = person.gateway.client.sessions
    assert isinstance(refused(lambda: sessions.open(login(key, person.name))), errors.InvitationExpired)

    def touch(flags: int) -> SshProof:
        proof = SshProof(secrets.token_bytes(32), person.name, device.algorithm, device.blob, b"")
        return replace(proof, signature=device.signature(login_message(proof), flags=flags))

    assert isinstance(refused(lambda: sessions.open(touch(0))), errors.SessionProofRefused)
    assert sessions.open(touch(1)).session.method is SessionMethod.SSH_KEY
