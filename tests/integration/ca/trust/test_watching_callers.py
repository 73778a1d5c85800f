"""WatchCallers as another service follows it."""

from collections.abc import Iterator

import pytest
from cryptography import x509

from keyreeve.keys import make_key
from keyreeve.values import AuthorityKind, CrlReason, Hierarchy, OperatorRole
from support.caller_follower import CallerFollower
from support.running_ca import MEMBERSHIP, RunningCa, server_csr, unique


@pytest.fixture
def follower(ca: RunningCa) -> Iterator[CallerFollower]:
    following = CallerFollower(ca, ca.new_client(MEMBERSHIP, worker=1))
    yield following
    following.updates.close()


def test_a_service_learns_of_a_revoked_caller_and_of_nothing_else(ca: RunningCa, follower: CallerFollower) -> None:
    member = ca.issue(f"members/{unique('web')}.example.test", make_key()).serial
    estate = ca.client().certificates.sign("server", server_csr(f"{unique('web')}.example.test")).serial
    follower.until(lambda: follower.callers.age() < 5)
    ca.client().certificates.revoke(member.hex(), CrlReason.SUPERSEDED)
    ca.client().certificates.revoke(estate, CrlReason.SUPERSEDED)
    follower.until(lambda: follower.callers.is_revoked(int.from_bytes(member)))
    beats = 0
    while beats < 2:
        update = next(follower.updates)
        follower.callers.apply(update, follower.roots)
        beats += not update.revoked
    assert not follower.callers.is_revoked(int(estate, 16))
    again = follower.client.trust.watch_callers(*follower.callers.position)
    first = next(again)
    assert (first.after_seq, first.revoked) == (follower.callers.position[1], ())
    again.close()


def test_a_service_learns_of_operators_as_their_records_change(ca: RunningCa, follower: CallerFollower) -> None:
    name = unique("olga")
    path = f"operators/operator/{name}"
    ca.know(path)
    follower.until(lambda: ca.identity(path) in follower.callers.operators)
    record = follower.callers.operators[ca.identity(path)]
    assert (record.name, record.role) == (f"operators/{name}", OperatorRole.OPERATOR)
    ca.clock.offset = 10
    try:
        ca.write(lambda tx: ca.operators.change_role(tx, name, ca.spiffe_id("operators/auditor/x").role, "ann"))
    finally:
        ca.clock.offset = 0
    auditor = ca.identity(f"operators/auditor/{name}")
    follower.until(lambda: auditor in follower.callers.operators)
    changed = follower.callers.operators[auditor]
    assert (changed.person_uid, changed.since) == (record.person_uid, pytest.approx(record.since + 10, abs=5))
    assert ca.identity(path) not in follower.callers.operators
    ca.client().operators.remove(name)
    follower.until(lambda: auditor not in follower.callers.operators)


def test_a_service_learns_of_issuing_cas_as_their_states_change(own_ca: RunningCa) -> None:
    follower = CallerFollower(own_ca, own_ca.new_client(MEMBERSHIP, worker=1))
    authorities = own_ca.client().authorities
    follower.until(lambda: len(follower.callers.issuers) == 1)
    [first] = follower.callers.issuers
    made = authorities.create(
        "control-issuing-2",
        hierarchy=Hierarchy.CONTROL,
        kind=AuthorityKind.INTERMEDIATE,
        common_name="control issuing 2",
        issuer="control-root-1",
    )
    second = x509.load_der_x509_certificate(made.certificate_der)
    authorities.activate("control-issuing-2")
    follower.until(lambda: follower.callers.issuers == (first, second))
    ann = own_ca.new_client("operators/admin/ann")
    ann.authorities.retire("control-issuing-1")
    seen = follower.callers.position
    follower.until(lambda: follower.callers.position > seen)
    assert follower.callers.issuers == (first, second), "what it issued is still accepted"
    ann.authorities.revoke("control-issuing-1", CrlReason.SUPERSEDED)
    follower.until(lambda: follower.callers.issuers == (second,))
    follower.updates.close()
