"""The connect check: which certificate counts as whose."""

from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from keyreeve.errors import KeyreeveError
from keyreeve.values import MemberState
from keyreeve_agent.peers.acceptance import Peer, PeerKind, PeerTrust
from keyreeve_agent.peers.view import revoked_by
from support.agent_world import ARRAY, CHECK, TestArrayCa, member_of, now
from support.peer_certificates import TRUST_DOMAIN, Leaf

ONE, TWO = f"one.{TRUST_DOMAIN}", f"two.{TRUST_DOMAIN}"
CA, INTRODUCED, OTHER = TestArrayCa.make(), TestArrayCa.make(CHECK), TestArrayCa.make()
TRUST = PeerTrust(
    TRUST_DOMAIN,
    ARRAY,
    (CA.ca.certificate, INTRODUCED.ca.certificate),
    frozenset(),
    {ONE: member_of(ONE), TWO: member_of(TWO)},
)


def reason(leaf: Leaf, trust: PeerTrust = TRUST, seconds: float = 0) -> str:
    with pytest.raises(KeyreeveError) as refused:
        trust.accept(leaf.certificate, now().timestamp() + seconds)
    return refused.value.reason


def test_a_member_is_known_by_the_name_in_its_certificate() -> None:
    assert TRUST.accept(CA.peer(ONE).certificate, now().timestamp()) == Peer(PeerKind.MEMBER, ONE)
    assert TRUST.accept_server(CA.peer(TWO).certificate, TWO, now().timestamp()).name == TWO


def test_a_check_is_the_membership_services_whichever_ca_of_the_bundle_signed_it() -> None:
    for ca in (CA, INTRODUCED):
        assert TRUST.accept(ca.check().certificate, now().timestamp()).kind is PeerKind.MEMBERSHIP


def test_the_certificate_of_another_name_is_refused_where_a_name_was_dialed() -> None:
    for leaf in (CA.peer(ONE), CA.ca.leaf(dns=[f"x.probe.{TRUST_DOMAIN}"], common_name=f"x.probe.{TRUST_DOMAIN}")):
        with pytest.raises(KeyreeveError) as refused:
            TRUST.accept_server(leaf.certificate, TWO, now().timestamp())
        assert refused.value.reason == "PEER_IDENTITY_INVALID"


@pytest.mark.parametrize(
    ("leaf", "expected"),
    [
        (OTHER.peer(ONE), "PEER_ISSUER_UNKNOWN"),
        (CA.peer(f"three.{TRUST_DOMAIN}"), "PEER_NOT_MEMBER"),
        (CA.ca.leaf(dns=[ONE], common_name=TWO), "PEER_IDENTITY_INVALID"),
        (CA.ca.leaf(dns=[ONE, TWO], common_name=ONE), "PEER_IDENTITY_INVALID"),
        (CA.ca.leaf(dns=[], common_name=ONE), "PEER_IDENTITY_INVALID"),
        (CA.ca.leaf(uris=[f"spiffe://{TRUST_DOMAIN}/members/{ONE}"], common_name=ONE), "PEER_IDENTITY_INVALID"),
        (CA.peer(ONE, usages=[ExtendedKeyUsageOID.SERVER_AUTH]), "PEER_IDENTITY_INVALID"),
        (CA.peer(f"x.probe.{TRUST_DOMAIN}"), "PEER_IDENTITY_INVALID"),
    ],
)
def test_what_is_no_certificate_of_a_member_is_refused_with_the_reason(leaf: Leaf, expected: str) -> None:
    assert reason(leaf) == expected


def test_a_certificate_is_good_within_its_validity_alone() -> None:
    leaf = CA.peer(ONE, not_after=now() + timedelta(minutes=1))
    assert reason(leaf, seconds=62) == "PEER_CERTIFICATE_EXPIRED"
    assert reason(leaf, seconds=-3600) == "PEER_CERTIFICATE_NOT_YET_VALID"


def test_a_revoked_certificate_is_refused_and_the_same_number_of_another_ca_is_not() -> None:
    leaf = CA.peer(ONE)
    CA.revoked.append(leaf.certificate.serial_number)
    crl = CA.crl()
    CA.revoked.clear()
    trust = replace(TRUST, revoked=revoked_by((crl,)))
    assert reason(leaf, trust) == "PEER_CERTIFICATE_REVOKED"
    other = frozenset({(INTRODUCED.ca.certificate.subject.public_bytes(), leaf.certificate.serial_number)})
    replace(TRUST, revoked=other).accept(leaf.certificate, now().timestamp())


@pytest.mark.parametrize(
    ("state", "array", "joining", "accepted"),
    [
        (MemberState.MEMBER, ARRAY, "", True),
        (MemberState.STANDALONE, ARRAY, "", True),
        (MemberState.JOINING, "arrays/its-own", ARRAY, True),
        (MemberState.JOINING, "arrays/its-own", "arrays/other", False),
        (MemberState.MEMBER, "arrays/other", "", False),
        (MemberState.DETACHING, ARRAY, "", False),
        (MemberState.QUARANTINED, ARRAY, "", False),
        (MemberState.DETACHED, ARRAY, "", False),
    ],
)
def test_the_roll_decides_who_is_accepted(state: MemberState, array: str, joining: str, accepted: bool) -> None:
    trust = replace(TRUST, members={ONE: member_of(ONE, state=state, array=array, joining_array=joining)})
    leaf = CA.peer(ONE)
    if accepted:
        assert trust.accept(leaf.certificate, now().timestamp()).name == ONE
    else:
        assert reason(leaf, trust) == "PEER_NOT_MEMBER"
