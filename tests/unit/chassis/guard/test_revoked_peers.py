"""Revoked callers, and how long calls are accepted without fresh revocation data."""

import pytest
from structlog.testing import capture_logs

from keyreeve.errors import PeerCertificateExpired, PeerCertificateRevoked, RevocationsStale
from keyreeve_chassis.guard.access import Freshness
from keyreeve_chassis.guard.peers import PeerVerifier, TrustView
from support.peer_certificates import TRUST_DOMAIN, Hierarchies
from support.running import KnownRevocations


@pytest.fixture(scope="module")
def hierarchies() -> Hierarchies:
    return Hierarchies.make()


def verifier(hierarchies: Hierarchies, revocations: KnownRevocations, seconds: int = 0) -> PeerVerifier:
    leaf = hierarchies.control.person("operators/admin/ann").certificate
    begin = int(leaf.not_valid_before_utc.timestamp())
    view = TrustView(TRUST_DOMAIN, (hierarchies.control.certificate,), 1)
    return PeerVerifier(lambda: view, lambda: begin + 600 + seconds, revocations)


def test_a_revoked_certificate_is_refused_from_one_call_to_the_next_though_it_was_known(
    hierarchies: Hierarchies,
) -> None:
    revocations = KnownRevocations()
    leaf, other = hierarchies.control.person("operators/admin/ann"), hierarchies.control.person("operators/admin/ann")
    checked = verifier(hierarchies, revocations)
    checked.verify(leaf.pem)
    revocations.serials.add(leaf.certificate.serial_number)
    with pytest.raises(PeerCertificateRevoked) as refused:
        checked.verify(leaf.pem)
    assert refused.value.metadata == {"serial": f"{leaf.certificate.serial_number:032x}"}
    checked.verify(other.pem)


def test_an_expired_certificate_is_called_expired_whether_or_not_it_was_revoked(hierarchies: Hierarchies) -> None:
    leaf = hierarchies.control.person("operators/admin/ann")
    revocations = KnownRevocations({leaf.certificate.serial_number})
    with pytest.raises(PeerCertificateExpired):
        verifier(hierarchies, revocations, seconds=100 * 86_400).verify(leaf.pem)


@pytest.mark.parametrize(
    ("age", "refused"),
    [
        (5.0, set()),
        (5.1, {Freshness.STRICT}),
        (600.0, {Freshness.STRICT}),
        (600.1, {Freshness.STRICT, Freshness.TOLERANT}),
        (float("inf"), {Freshness.STRICT, Freshness.TOLERANT}),
    ],
)
def test_strict_calls_stop_at_5_seconds_tolerant_ones_at_10_minutes_and_exempt_ones_never(
    hierarchies: Hierarchies, age: float, refused: set[Freshness]
) -> None:
    checked = verifier(hierarchies, KnownRevocations(seconds=age))
    for wanted in Freshness:
        if wanted in refused:
            with pytest.raises(RevocationsStale):
                checked.check_freshness(wanted)
        else:
            checked.check_freshness(wanted)


def test_the_log_says_once_a_minute_that_tolerant_calls_are_answered_with_stale_knowledge(
    hierarchies: Hierarchies,
) -> None:
    revocations = KnownRevocations()
    checked = verifier(hierarchies, revocations)
    with capture_logs() as written:
        for age in (4.0, 6.0, 30.0, 65.9, 66.0, 100.0, 1.0, 7.0):
            revocations.seconds = age
            checked.check_freshness(Freshness.TOLERANT)
    assert [line["age_seconds"] for line in written] == [6, 66, 7]
