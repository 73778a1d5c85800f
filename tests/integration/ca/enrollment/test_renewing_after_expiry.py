"""RenewExpired: a known member's control certificate, some days after its end, by a signature of the old key."""

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509

from keyreeve import Client, errors
from keyreeve.caller_values import MemberRecord
from keyreeve.context import Context
from keyreeve.keys import load_certificates, make_csr, make_key, save_key
from keyreeve.renewal_files import next_path
from keyreeve.values import CrlReason, MemberState, Name, NameType, Order, to_pem
from keyreeve_agent.control.expired import ExpiredCertificate
from keyreeve_ca.issuance.service import SignItem
from support.enrolling import address_of, enrolling_ca
from support.running_ca import ADMIN, MEMBERSHIP, RunningCa, unique
from support.waiting import wait_for

pytestmark = pytest.mark.sqlite_first

__all__ = ["enrolling_ca"]


class Server:
    """A server whose control certificate has expired by now."""

    def __init__(self, ca: RunningCa, directory: Path, *, expired: bool = True) -> None:
        self.ca = ca
        self.name = f"{unique('web')}.example.test"
        self.identity = ca.identity(f"members/{self.name}")
        self.key = make_key()
        leaf, issuing = self.issue(timedelta(seconds=301) if expired else None)
        admin = ca.context(ADMIN)
        self.context = replace(admin, certificate=directory / "certificate.pem", key=directory / "key.pem", path=None)
        save_key(self.context.key, self.key)
        self.context.certificate.write_text(to_pem([leaf, issuing]))
        self.leaf = x509.load_der_x509_certificate(leaf)
        if expired:
            wait_for("the certificate has expired", lambda: time.time() > self.leaf.not_valid_after_utc.timestamp() + 1)

    @property
    def files(self) -> ExpiredCertificate:
        return ExpiredCertificate(self.context, address_of(self.ca))

    @property
    def present(self) -> x509.Certificate:
        return x509.load_der_x509_certificate(load_certificates(self.context.certificate)[0])

    def issue(self, lifetime: timedelta | None = None) -> tuple[bytes, bytes]:
        names = (Name(NameType.URI, self.identity),)
        outcome = self.ca.sign_in_process(SignItem("member", make_csr(self.key), names, lifetime))
        assert not isinstance(outcome, errors.KeyreeveError), outcome
        issuing = self.ca.read(lambda tx: tx.authority(outcome.authority_id))
        return outcome.der, issuing.certificate_der

    def know(self, state: MemberState = MemberState.MEMBER, **changes: object) -> None:
        """Have the membership service say that it is a member."""
        array = f"arrays/{unique('array')}"
        made = replace(MemberRecord(unique("uid"), self.identity, array, state), **changes)  # type: ignore[arg-type]
        self.ca.client(MEMBERSHIP).trust.set_members(array, [made], order=Order(1, 1, 1, "one"))


async def reason(server: Server) -> str:
    with pytest.raises(errors.KeyreeveError) as refused:
        await server.files.renew()
    assert server.present == server.leaf, "nothing has changed"
    return refused.value.reason


async def test_a_known_member_renews_its_expired_certificate_for_a_new_key(
    enrolling_ca: RunningCa, tmp_path: Path
) -> None:
    server = Server(enrolling_ca, tmp_path)
    server.know()
    assert server.files.is_expired()
    await server.files.renew()
    assert not server.files.is_expired()
    assert server.present.public_key() != server.leaf.public_key()
    sans = [
        one.extensions.get_extension_for_class(x509.SubjectAlternativeName) for one in (server.present, server.leaf)
    ]
    assert sans[0].value == sans[1].value
    context = Context(
        server.context.trust_domain,
        server.context.endpoints,
        *(getattr(server.context, name) for name in ("bundle", "estate_bundle", "certificate", "key")),
    )
    with Client(context) as client:
        assert client.authorities.get("control-issuing-1").name == "authorities/control-issuing-1"


async def test_a_lost_answer_is_given_again_for_the_same_key_and_no_other(
    enrolling_ca: RunningCa, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server(enrolling_ca, tmp_path)
    server.know()
    with monkeypatch.context() as patch:
        patch.setattr("keyreeve_agent.control.expired.write_atomically", lost)
        with pytest.raises(OSError, match="lost"):
            await server.files.renew()
    kept = next_path(server.context.key).read_bytes()
    save_key(next_path(server.context.key), make_key())
    assert await reason(server) == "RENEWAL_SUPERSEDED"
    next_path(server.context.key).write_bytes(kept)
    await server.files.renew()
    assert server.present != server.leaf


def lost(*_: object) -> None:
    raise OSError("lost")


@pytest.mark.parametrize(
    ("prepare", "expected"),
    [
        (lambda server: None, "RENEWAL_NOT_ALLOWED"),
        (lambda server: server.know(MemberState.QUARANTINED), "RENEWAL_NOT_ALLOWED"),
        (lambda server: server.know(MemberState.DETACHED), "RENEWAL_NOT_ALLOWED"),
        (lambda server: server.know(removed=True), "RENEWAL_NOT_ALLOWED"),
        (lambda server: (server.know(), server.issue()), "RENEWAL_NOT_ALLOWED"),
        (lambda server: (server.know(), save_key(server.context.key, make_key())), "RENEWAL_PROOF_INVALID"),
    ],
    ids=["unknown", "quarantined", "detached", "removed", "newer certificate", "another key"],
)
async def test_who_is_no_known_member_or_has_not_the_key_is_refused(
    enrolling_ca: RunningCa, tmp_path: Path, prepare: Callable[[Server], object], expected: str
) -> None:
    server = Server(enrolling_ca, tmp_path)
    prepare(server)
    assert await reason(server) == expected


async def test_a_certificate_that_is_valid_is_refused(enrolling_ca: RunningCa, tmp_path: Path) -> None:
    server = Server(enrolling_ca, tmp_path, expired=False)
    server.know()
    assert await reason(server) == "RENEWAL_NOT_ALLOWED"


async def test_a_revoked_certificate_is_not_renewed(enrolling_ca: RunningCa, tmp_path: Path) -> None:
    server = Server(enrolling_ca, tmp_path, expired=False)
    server.know()
    enrolling_ca.client(ADMIN).certificates.revoke(f"{server.leaf.serial_number:032x}", CrlReason.KEY_COMPROMISE)
    assert await reason(server) == "CERTIFICATE_REVOKED"
