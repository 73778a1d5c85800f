"""Validity periods: both ends are included, and nothing exceeds the profile or the issuer."""

from calendar import timegm
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import assume
from hypothesis import strategies as st

from keyreeve.errors import AuthorityExpiring, AuthorityStateWrong, LifetimeRefused
from keyreeve.values import Hierarchy
from keyreeve_ca.issuance.policy import SHORTEST_PART_OF_DEFAULT, plan_validity
from support.both_seeds import for_all
from support.plans import DAY, NOW, builtin, issuer

SERVER = builtin("server").profile
DEFAULT = 30 * DAY
MAXIMUM = 90 * DAY
BACKDATE = 300


@pytest.mark.parametrize("seconds", [BACKDATE + 1, BACKDATE + 2, DAY, MAXIMUM - 1, MAXIMUM])
def test_a_lifetime_within_the_bounds_is_granted_to_the_second(seconds):
    start, end = plan_validity(SERVER, timedelta(seconds=seconds), NOW, issuer(Hierarchy.ESTATE))
    assert start == NOW - BACKDATE
    assert end - start + 1 == seconds
    assert end >= NOW


@pytest.mark.parametrize("seconds", [MAXIMUM + 1, 10 * MAXIMUM, BACKDATE, 1, 0, -1])
def test_a_lifetime_beyond_the_bounds_is_refused_with_the_bounds(seconds):
    with pytest.raises(LifetimeRefused) as refusal:
        plan_validity(SERVER, timedelta(seconds=seconds), NOW, issuer(Hierarchy.ESTATE))
    assert refusal.value.metadata == {"min_seconds": str(BACKDATE + 1), "max_seconds": str(MAXIMUM)}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (MAXIMUM + 1, "the requested lifetime is 90 d 1 s; the profile allows at most 90 d"),
        (400 * DAY, "the requested lifetime is 400 d; the profile allows at most 90 d"),
        (60, "the requested lifetime is 1 min, and 5 min have passed when the certificate is signed"),
        (-90, "the requested lifetime is -1 min 30 s, and 5 min have passed when the certificate is signed"),
    ],
)
def test_a_refused_lifetime_is_reported_in_readable_units(seconds, text):
    with pytest.raises(LifetimeRefused) as refusal:
        plan_validity(SERVER, timedelta(seconds=seconds), NOW, issuer(Hierarchy.ESTATE))
    assert refusal.value.message == text


def test_a_lifetime_with_a_fraction_of_a_second_is_refused():
    with pytest.raises(LifetimeRefused, match="whole"):
        plan_validity(SERVER, timedelta(seconds=4000, microseconds=1), NOW, issuer(Hierarchy.ESTATE))


def test_a_default_is_cut_at_the_issuers_end_down_to_a_tenth():
    shortest = DEFAULT // SHORTEST_PART_OF_DEFAULT
    for left in (DEFAULT, DEFAULT - 1, shortest):
        end_of_issuer = NOW - BACKDATE + left - 1
        start, end = plan_validity(SERVER, None, NOW, issuer(Hierarchy.ESTATE, not_after=end_of_issuer))
        assert (start, end) == (NOW - BACKDATE, end_of_issuer)
    with pytest.raises(AuthorityExpiring) as refusal:
        plan_validity(SERVER, None, NOW, issuer(Hierarchy.ESTATE, not_after=NOW - BACKDATE + shortest - 2))
    assert refusal.value.metadata == {"max_seconds": str(shortest - 1)}


def test_a_requested_lifetime_is_never_cut_at_the_issuers_end():
    last = NOW + 10_000
    plan_validity(SERVER, timedelta(seconds=10_001 + BACKDATE), NOW, issuer(Hierarchy.ESTATE, not_after=last))
    with pytest.raises(AuthorityExpiring):
        plan_validity(SERVER, timedelta(seconds=10_002 + BACKDATE), NOW, issuer(Hierarchy.ESTATE, not_after=last))


def test_an_issuer_that_has_expired_issues_nothing():
    for lifetime in (None, timedelta(seconds=BACKDATE + 1)):
        with pytest.raises(AuthorityExpiring):
            plan_validity(SERVER, lifetime, NOW, issuer(Hierarchy.ESTATE, not_after=NOW - 1))


def test_a_new_issuer_is_not_preceded_and_one_from_the_future_is_refused():
    start, end = plan_validity(SERVER, None, NOW, issuer(Hierarchy.ESTATE, not_before=NOW))
    assert start == NOW
    assert end == NOW - BACKDATE + DEFAULT - 1
    with pytest.raises(AuthorityStateWrong, match="clock"):
        plan_validity(SERVER, None, NOW, issuer(Hierarchy.ESTATE, not_before=NOW + 1))


MOMENTS = [
    timegm((year, month, day, hour, minute, second))
    for year, month, day, hour, minute, second in (
        (2028, 2, 28, 23, 59, 59),
        (2028, 2, 29, 0, 0, 0),
        (2028, 2, 29, 23, 59, 59),
        (2049, 12, 31, 23, 59, 59),
        (2050, 1, 1, 0, 0, 0),
        (2038, 1, 19, 3, 14, 8),
        (2100, 2, 28, 23, 59, 59),
    )
]


@for_all(
    examples=1000,
    now=st.sampled_from(MOMENTS).flatmap(lambda moment: st.integers(moment - 400 * DAY, moment + 2)),
    lifetime=st.none() | st.integers(0, MAXIMUM + 2) | st.sampled_from([BACKDATE, BACKDATE + 1, MAXIMUM, MAXIMUM + 1]),
    default=st.integers(BACKDATE + 1, MAXIMUM),
    since=st.integers(0, 2 * BACKDATE),
    left=st.integers(-10, 2 * MAXIMUM) | st.sampled_from([0, BACKDATE, DEFAULT, MAXIMUM]),
)
def test_no_validity_is_longer_than_allowed_or_reaches_beyond_its_issuer(now, lifetime, default, since, left):
    profile = replace(SERVER, default_lifetime=timedelta(seconds=default))
    authority = issuer(Hierarchy.ESTATE, not_before=now - since, not_after=now + left)
    requested = None if lifetime is None else timedelta(seconds=lifetime)
    try:
        start, end = plan_validity(profile, requested, now, authority)
    except LifetimeRefused:
        assert lifetime is not None
        assert not BACKDATE < lifetime <= MAXIMUM
        return
    except AuthorityExpiring:
        wanted = default if lifetime is None else lifetime
        assert left + 1 < wanted - BACKDATE
        return
    assert end - start + 1 <= (default if lifetime is None else lifetime) <= MAXIMUM
    assert authority.not_before <= start <= now <= end <= authority.not_after
    assert start >= now - BACKDATE
    assume(since >= BACKDATE)
    if lifetime is not None:
        assert end - start + 1 == lifetime
