"""Members' records: ordered by the membership service, and known to every service within a second."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from keyreeve.caller_feed import KnownCallers
from keyreeve.caller_values import MemberRecord
from keyreeve.values import MemberState, Order
from support.caller_follower import CallerFollower
from support.running_ca import MEMBERSHIP, RunningCa, refused, unique


@pytest.fixture
def follower(ca: RunningCa) -> Iterator[CallerFollower]:
    following = CallerFollower(ca, ca.new_client(MEMBERSHIP, worker=1))
    yield following
    following.updates.close()


def record(ca: RunningCa, **changes: object) -> MemberRecord:
    identity = ca.identity(f"members/{unique('web')}.example.test")
    made = MemberRecord(unique("uid"), identity, f"arrays/{unique('array')}", MemberState.MEMBER)
    return replace(made, **changes)  # type: ignore[arg-type]


def test_a_service_learns_of_members_as_their_records_change(ca: RunningCa, follower: CallerFollower) -> None:
    trust, first = ca.client(MEMBERSHIP).trust, record(ca, primary=True)
    second = record(ca, array=first.array, state=MemberState.JOINING)
    trust.set_members(first.array, [first, second], order=Order(1, 1, 1, "one"))
    callers = follower.callers
    follower.until(lambda: callers.member(second.identity) == second)
    assert callers.member(first.identity) == first
    assert callers.member(ca.identity("members/unknown.example.test")) is None
    detached = replace(second, state=MemberState.DETACHED)
    trust.set_members(first.array, [detached], order=Order(2, 1, 1, "one"))
    follower.until(lambda: callers.member(second.identity) == detached)
    trust.set_members(first.array, [replace(detached, removed=True)], order=Order(2, 2, 1, "one"))
    follower.until(lambda: callers.member(second.identity) is None)


def test_a_follower_that_starts_anew_learns_of_all_members_and_keeps_them(ca: RunningCa, tmp_path: Path) -> None:
    made = record(ca)
    ca.client(MEMBERSHIP).trust.set_members(made.array, [made], order=Order(1, 1, 1, "one"))
    follower = CallerFollower(ca, ca.new_client(MEMBERSHIP, worker=1), tmp_path / "callers.json")
    follower.until(lambda: follower.callers.member(made.identity) == made)
    follower.updates.close()
    save = follower.callers.saving()
    assert save is not None
    save()
    loaded = KnownCallers.load(ca.settings.trust_domain, tmp_path / "callers.json")
    assert loaded.member(made.identity) == made
    assert loaded.position == follower.callers.position


def test_a_reused_name_belongs_to_the_new_member_alone(ca: RunningCa, follower: CallerFollower) -> None:
    old = record(ca, primary=True)
    new = replace(old, member_uid=unique("uid"), state=MemberState.JOINING, primary=False)
    trust = ca.client(MEMBERSHIP).trust
    trust.set_members(old.array, [old], order=Order(1, 1, 1, "one"))
    trust.set_members(old.array, [new], order=Order(1, 2, 1, "one"))
    follower.until(lambda: follower.callers.member(old.identity) == new)
    assert ca.read(lambda tx: tx.arrays.member(old.identity)) == new


def test_an_outdated_order_records_no_member(ca: RunningCa) -> None:
    made, trust = record(ca), ca.client(MEMBERSHIP).trust
    trust.set_members(made.array, [made], order=Order(3, 1, 2, "two"))
    changed = replace(made, state=MemberState.QUARANTINED)
    for order in (Order(3, 2, 1, "one"), Order(3, 2, 2, "one"), Order(2, 9, 2, "two"), Order(3, 0, 3, "three")):
        told = refused(lambda order=order: trust.set_members(made.array, [changed], order=order))
        assert told.reason == "ORDER_OUTDATED"
        assert (told.metadata["rotation"], told.metadata["step"], told.metadata["fence"]) == ("3", "1", "2")
    assert ca.read(lambda tx: tx.arrays.member(made.identity)) == made


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"identity": "spiffe://example.test/operators/admin/ann"}, "members[0].identity"),
        ({"identity": "spiffe://other.test/members/web"}, "members[0].identity"),
        ({"identity": "web"}, "members[0].identity"),
        ({"array": "somewhere/else"}, "members[0].array"),
        ({"member_uid": ""}, "members[0].member_uid"),
        ({"member_uid": "a b"}, "members[0].member_uid"),
    ],
)
def test_a_record_that_names_no_member_is_refused(ca: RunningCa, changes: dict[str, object], field: str) -> None:
    made, trust = record(ca, **changes), ca.client(MEMBERSHIP).trust
    told = refused(lambda: trust.set_members("arrays/one", [made], order=Order(1, 1, 1, "one")))
    assert (told.reason, told.violations[0].field) == ("FIELD_INVALID", field)


def test_an_empty_or_long_list_is_refused(ca: RunningCa) -> None:
    made, trust = record(ca), ca.client(MEMBERSHIP).trust
    for records in ([], [made] * 501):
        told = refused(lambda records=records: trust.set_members("arrays/one", records, order=Order(1, 1, 1, "one")))
        assert told.violations[0].field == "members"
