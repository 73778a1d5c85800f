from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from keyreeve.errors import (
    PeerCertificateExpired,
    PeerCertificateMissing,
    PeerCertificateNotYetValid,
    PeerIdentityInvalid,
    PeerIssuerUnknown,
    PeerOperatorUnknown,
    PeerTrustDomainWrong,
)
from keyreeve.identity import Role
from keyreeve_chassis.guard.peers import OperatorRecord, PeerVerifier, TrustView
from support.access_matrix import caller_kinds, operators
from support.peer_certificates import TRUST_DOMAIN, Hierarchies, TestCa
from support.running import KnownRevocations

NOW = datetime(2031, 3, 4, 5, 6, 7, tzinfo=UTC)
ANN = "spiffe://example.test/operators/admin/ann"


class World:
    """A verifier whose trust and time the test sets."""

    def __init__(self, *issuers: TestCa, now: datetime | None = None, cache_size: int = 16) -> None:
        self.now = int((now or datetime.now(UTC)).timestamp())
        self.view = TrustView(TRUST_DOMAIN, tuple(ca.certificate for ca in issuers), 1)
        self.asked = 0
        self.revocations = KnownRevocations()
        self.verifier = PeerVerifier(self._trust, lambda: self.now, self.revocations, cache_size=cache_size)

    def _trust(self) -> TrustView:
        self.asked += 1
        return self.view

    def trust(self, *issuers: TestCa) -> None:
        self.view = TrustView(TRUST_DOMAIN, tuple(ca.certificate for ca in issuers), self.view.generation + 1)


@pytest.fixture(scope="module")
def hierarchies() -> Hierarchies:
    return Hierarchies.make()


@pytest.mark.parametrize("index", range(len(caller_kinds(Hierarchies.make()))))
def test_each_kind_of_caller_is_known_or_refused_by_name_the_second_time_too(hierarchies, index):
    kind = caller_kinds(hierarchies)[index]
    world = World(hierarchies.control)
    world.view = replace(world.view, operators=operators())
    verifier = world.verifier
    for _ in range(2):
        if kind.refusal is None:
            caller = verifier.verify(kind.leaf.pem)
            assert caller.role is kind.role
            assert caller.serial == kind.leaf.certificate.serial_number
        else:
            with pytest.raises(kind.refusal):
                verifier.verify(kind.leaf.pem if kind.leaf else None)


@pytest.mark.parametrize(
    ("seconds", "refusal"),
    [(-1, PeerCertificateNotYetValid), (0, None), (60, None), (120, None), (121, PeerCertificateExpired)],
)
def test_both_ends_of_the_validity_belong_to_it_to_the_second(seconds, refusal):
    root = TestCa.root("root", now=NOW)
    issuing = root.issuing("issuing", now=NOW)
    leaf = issuing.leaf(uris=[ANN], not_before=NOW, not_after=NOW + timedelta(seconds=120))
    world = World(issuing, now=NOW + timedelta(seconds=seconds))
    if refusal is None:
        assert str(world.verifier.verify(leaf.pem)) == ANN
    else:
        with pytest.raises(refusal):
            world.verifier.verify(leaf.pem)


def test_the_time_is_compared_on_every_call_for_a_certificate_that_is_remembered(hierarchies):
    leaf = hierarchies.control.person("operators/admin/ann")
    world = World(hierarchies.control)
    world.verifier.verify(leaf.pem)
    world.now += 13 * 3600
    with pytest.raises(PeerCertificateExpired) as refused:
        world.verifier.verify(leaf.pem)
    assert refused.value.metadata["server_time"] == str(world.now)
    world.now -= 13 * 3600
    world.verifier.verify(leaf.pem)


def test_an_issuer_outside_its_validity_authenticates_no_caller():
    root = TestCa.root("root", now=NOW)
    issuing = root.issuing("issuing", now=NOW, life=timedelta(hours=1))
    leaf = issuing.leaf(uris=[ANN], not_before=NOW, not_after=NOW + timedelta(hours=5))
    world = World(issuing, now=NOW)
    world.verifier.verify(leaf.pem)
    world.now += 2 * 3600
    with pytest.raises(PeerIssuerUnknown):
        world.verifier.verify(leaf.pem)


def test_a_new_generation_of_trust_voids_what_was_decided_before(hierarchies):
    leaf, world = hierarchies.control.person("operators/admin/ann"), World(hierarchies.control)
    world.verifier.verify(leaf.pem)
    world.trust(hierarchies.impostor)
    with pytest.raises(PeerIssuerUnknown):
        world.verifier.verify(leaf.pem)
    world.trust(hierarchies.impostor, hierarchies.control)
    assert world.verifier.verify(leaf.pem).role is Role.ADMIN


def test_trust_is_read_on_every_call(hierarchies):
    leaf, world = hierarchies.control.person("operators/admin/ann"), World(hierarchies.control)
    for _ in range(3):
        world.verifier.verify(leaf.pem)
    assert world.asked == 3


def test_the_right_issuer_is_found_among_several_of_one_name(hierarchies):
    world = World(hierarchies.impostor, hierarchies.estate, hierarchies.control)
    assert world.verifier.verify(hierarchies.control.person("operators/admin/ann").pem).role is Role.ADMIN


def test_no_more_certificates_are_remembered_than_the_cache_holds(hierarchies):
    world = World(hierarchies.control, cache_size=2)
    for name in ("a", "b", "c", "d"):
        world.verifier.verify(hierarchies.control.person(f"operators/admin/{name}").pem)
    assert len(world.verifier._cache) == 2


@pytest.mark.parametrize("pem", [b"x", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", b"\xff\x00"])
def test_bytes_that_are_no_certificate_identify_nobody(hierarchies, pem):
    with pytest.raises(PeerIdentityInvalid):
        World(hierarchies.control).verifier.verify(pem)


@pytest.mark.parametrize("pem", [None, b""])
def test_no_certificate_is_said_to_be_missing(hierarchies, pem):
    with pytest.raises(PeerCertificateMissing):
        World(hierarchies.control).verifier.verify(pem)


@pytest.mark.parametrize(
    "requested",
    [
        {"uris": [ANN], "usages": [ExtendedKeyUsageOID.SERVER_AUTH]},
        {"uris": [ANN], "usages": [ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]},
        {"uris": [ANN], "usages": []},
        {"uris": [ANN], "ca": True},
        {"uris": [ANN, ANN]},
        {"uris": [ANN, "https://example.test/"]},
        {"uris": ["https://example.test/operators/admin/ann"]},
        {"uris": ["SPIFFE://example.test/operators/admin/ann"]},
        {"uris": ["spiffe://example.test/operators/admin/%61nn"]},
        {"uris": ["spiffe://example.test:443/operators/admin/ann"]},
        {"uris": ["spiffe://example.test/operators/admin/ann/"]},
        {"uris": ["spiffe://example.test/operators/admin"]},
        {"uris": ["spiffe://example.test"]},
        {"dns": [ANN], "common_name": ANN},
        {},
    ],
)
def test_a_certificate_that_does_not_identify_a_client_exactly_is_refused(hierarchies, requested):
    with pytest.raises(PeerIdentityInvalid):
        World(hierarchies.control).verifier.verify(hierarchies.control.leaf(**requested).pem)


@pytest.mark.parametrize("domain", ["other.test", "sub.example.test", "example.test.other"])
def test_the_right_authority_does_not_vouch_for_another_trust_domain(hierarchies, domain):
    leaf = hierarchies.control.person("operators/admin/ann", trust_domain=domain)
    with pytest.raises(PeerTrustDomainWrong):
        World(hierarchies.control).verifier.verify(leaf.pem)


def test_dns_names_beside_the_one_uri_change_nothing(hierarchies):
    leaf = hierarchies.control.leaf(uris=[ANN], dns=["spiffe://example.test/operators/admin/eve", "web.example.test"])
    assert str(World(hierarchies.control).verifier.verify(leaf.pem)) == ANN


def test_a_record_that_changes_counts_with_the_next_generation_of_trust(hierarchies):
    world = World(hierarchies.control)
    leaf = hierarchies.control.person("operators/admin/ann")
    world.view = replace(world.view, operators={ANN: OperatorRecord("uid-1", 0)})
    caller = world.verifier.verify(leaf.pem)
    assert (caller.role, caller.person_uid, caller.claimant) == (Role.ADMIN, "uid-1", f"{ANN}#uid-1")
    world.view = replace(world.view, operators={}, generation=2)
    with pytest.raises(PeerOperatorUnknown):
        world.verifier.verify(leaf.pem)
    world.view = replace(world.view, operators=None, generation=3)
    assert world.verifier.verify(leaf.pem).claimant == ANN, "where no records are kept none is asked for"
