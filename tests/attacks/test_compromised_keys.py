"""A key that others may know, and the certificates that a thief renewed with it."""

import itertools
from datetime import timedelta

import pytest
from sqlalchemy import text

from keyreeve import Client, errors
from keyreeve.keys import PrivateKey, make_csr, make_key
from keyreeve.values import CertificateState, CrlReason, Name, SignedCertificate
from keyreeve_ca.requests.csr import read_csr
from support.enrolling import conversation, enrolling_ca, new_token
from support.running_ca import ADMIN, OPERATOR, WORKLOAD, RunningCa, refused, unique
from support.waiting import wait_for

pytestmark = pytest.mark.sqlite_first

__all__ = ["enrolling_ca"]

SECOND = "operators/admin/second"
SOON = 5.0


def request(key: PrivateKey) -> bytes:
    return make_csr(key, [Name.dns(f"{unique('web')}.example.test")])


def hash_of(key: PrivateKey) -> bytes:
    return read_csr(make_csr(key)).spki_sha256


def signed(client: Client, key: PrivateKey) -> SignedCertificate:
    return client.certificates.sign("server", request(key))


def renewed(client: Client, old: SignedCertificate, old_key: PrivateKey, key: PrivateKey) -> SignedCertificate:
    return client.certificates.renew(old.serial, make_csr(key), old_key=old_key)


def is_blocked(client: Client, key: PrivateKey) -> bool:
    try:
        signed(client, key)
    except errors.KeyBlocked:
        return True
    return False


def wait_until_blocked(client: Client, key: PrivateKey) -> None:
    """Wait until every worker that a connection may lead to has heard of it."""
    wait_for("the key is blocked", lambda: is_blocked(client, key), SOON)


def test_a_key_reported_as_compromised_is_certified_for_nobody(enrolling_ca: RunningCa) -> None:
    key, client = make_key(), enrolling_ca.client(WORKLOAD)
    compromised = signed(client, key)
    client.certificates.revoke(compromised.serial, CrlReason.KEY_COMPROMISE)
    for who in (WORKLOAD, OPERATOR, ADMIN):
        wait_until_blocked(enrolling_ca.client(who), key)
    with conversation(new_token(enrolling_ca), key=key) as talk:
        assert isinstance(refused(talk.whole), errors.KeyBlocked)


def test_a_compromised_key_of_the_control_hierarchy_is_blocked_too(enrolling_ca: RunningCa) -> None:
    key, admin = make_key(), enrolling_ca.client()
    token = new_token(enrolling_ca)
    with conversation(token, key=key) as talk:
        talk.whole()
    mine = next(one for one in admin.certificates.list(identity=str(token.identity)))
    admin.certificates.revoke(mine.serial, CrlReason.KEY_COMPROMISE)
    wait_until_blocked(admin, key)


def test_a_key_that_was_never_seen_is_blocked_until_two_persons_agree(enrolling_ca: RunningCa) -> None:
    key, admin, second = make_key(), enrolling_ca.client(), enrolling_ca.client(SECOND)
    blocked = enrolling_ca.client(OPERATOR).certificates.block_key(hash_of(key), "found in a repository")
    assert blocked.name == f"blockedKeys/{hash_of(key).hex()}"
    wait_until_blocked(admin, key)
    assert blocked.name in [one.name for one in admin.certificates.blocked_keys()]
    assert admin.certificates.unblock_key(hash_of(key)).approver == enrolling_ca.identity(ADMIN)
    assert isinstance(refused(lambda: admin.certificates.unblock_key(hash_of(key))), errors.SecondPersonRequired)
    wait_until_blocked(admin, key)
    second.certificates.unblock_key(hash_of(key))
    wait_for("the key is certified again", lambda: not is_blocked(second, key), SOON)
    assert isinstance(refused(lambda: admin.certificates.unblock_key(hash_of(key))), errors.KeyNotBlocked)


def test_blocking_again_withdraws_the_approval_to_unblock(enrolling_ca: RunningCa) -> None:
    key, admin = make_key(), enrolling_ca.client()
    admin.certificates.block_key(hash_of(key), "lost")
    admin.certificates.unblock_key(hash_of(key))
    admin.certificates.block_key(hash_of(key), "lost")
    assert enrolling_ca.client(SECOND).certificates.unblock_key(hash_of(key)).approver == enrolling_ca.identity(SECOND)


Line = tuple[Client, list[SignedCertificate], list[PrivateKey]]


@pytest.fixture
def line(enrolling_ca: RunningCa) -> Line:
    """A certificate, its renewal, and the renewal of that; the thief has the last two."""
    client = enrolling_ca.client(WORKLOAD)
    keys = [make_key() for _ in range(3)]
    certificates = [signed(client, keys[0])]
    for old, new in itertools.pairwise(keys):
        certificates.append(renewed(client, certificates[-1], old, new))
    return client, certificates, keys


def states(client: Client, line: list[SignedCertificate]) -> list[CertificateState]:
    return [client.certificates.get(one.serial).state for one in line]


VALID, REVOKED = CertificateState.VALID, CertificateState.REVOKED


@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_compromise_revokes_what_a_certificate_renewed_and_what_renewed_it(line: Line, at: int) -> None:
    client, certificates, _ = line
    client.certificates.revoke(certificates[at].serial, CrlReason.KEY_COMPROMISE)
    assert states(client, certificates) == [REVOKED] * 3


def test_a_compromise_of_many_keys_revokes_what_was_renewed_from_them(enrolling_ca: RunningCa) -> None:
    client, admin, key = enrolling_ca.client(WORKLOAD), enrolling_ca.client(), make_key()
    old = signed(client, key)
    enrolling_ca.clock.offset += 60
    try:
        new = renewed(client, old, key, make_key())
    finally:
        enrolling_ca.clock.offset -= 60
    stored = client.certificates.get(old.serial)
    begun = admin.certificates.revoke_many(
        CrlReason.KEY_COMPROMISE, identity=stored.identity, issued_before=stored.issued_at + timedelta(seconds=30)
    )
    *_, last = admin.operations.watch(begun.name)
    assert last.done == 2
    assert states(client, [old, new]) == [REVOKED] * 2


@pytest.mark.parametrize(("lineage", "expected"), [(None, [REVOKED, VALID, VALID]), (True, [REVOKED] * 3)])
def test_for_other_reasons_the_line_is_revoked_when_that_is_asked_for(
    line: Line, lineage: bool | None, expected: list[CertificateState]
) -> None:
    client, certificates, _ = line
    client.certificates.revoke(certificates[0].serial, CrlReason.SUPERSEDED, lineage=lineage)
    assert states(client, certificates) == expected


@pytest.mark.parametrize("at", [0, 1])
def test_nothing_of_a_line_is_renewed_once_any_of_it_is_revoked(line: Line, at: int) -> None:
    client, certificates, keys = line
    client.certificates.revoke(certificates[at].serial, CrlReason.SUPERSEDED)
    error = refused(lambda: renewed(client, certificates[2], keys[2], make_key()))
    assert isinstance(error, errors.CertificateRevoked)


def test_a_renewal_takes_nothing_from_a_row_of_the_ledger_that_another_party_wrote(enrolling_ca: RunningCa) -> None:
    client, admin = enrolling_ca.client(WORKLOAD), enrolling_ca.client()
    key = make_key()
    mine, other = signed(client, key), signed(admin, make_key())
    store = enrolling_ca.coordinator.issuance.store
    statement = (
        "UPDATE certificates SET der = (SELECT der FROM certificates WHERE serial = :other) WHERE serial = :mine"
    )
    values = {"mine": bytes.fromhex(mine.serial), "other": bytes.fromhex(other.serial)}
    enrolling_ca.run(store.audit_log().writer.write(lambda c: c.execute(text(statement), values)))
    error = refused(lambda: renewed(client, mine, key, make_key()))
    assert isinstance(error, errors.TrustTableAltered | errors.RenewalProofInvalid)
