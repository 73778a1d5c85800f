"""What one caller may cost a process that reads from it, all its connections together."""

from keyreeve_chassis.rpc import wire
from keyreeve_chassis.rpc.limits import Conduct, Standing
from support.http2_peer import LIMITS

NOW = 1000.0


def test_a_caller_that_sends_for_nothing_rests_until_it_has_earned_what_it_cost() -> None:
    standing = Standing(LIMITS, NOW)
    standing.spend(0.08, NOW)
    assert standing.rest(NOW) == 0
    standing.spend(0.25, NOW)
    rest = standing.rest(NOW)
    assert rest > 0
    assert standing.rest(NOW + rest) < 1e-9
    assert not standing.clean(NOW + rest)
    assert standing.clean(NOW + 60)


def test_an_answered_call_makes_up_for_what_was_read() -> None:
    standing = Standing(LIMITS, NOW)
    conduct = Conduct(LIMITS, NOW, standing)
    for _ in range(10_000):
        standing.spend(0.0005, NOW)
        conduct.finish(wire.OK, NOW)
    assert standing.rest(NOW) == 0


def test_a_refused_call_costs_more_than_its_bytes() -> None:
    standing = Standing(LIMITS, NOW)
    conduct = Conduct(LIMITS, NOW, standing)
    count = 0
    while standing.rest(NOW) == 0:
        conduct.finish(wire.UNIMPLEMENTED, NOW)
        count += 1
    assert count < 1_000


def test_the_connections_of_a_caller_share_what_it_may_cost() -> None:
    standing = Standing(LIMITS, NOW)
    for _ in range(10):
        Conduct(LIMITS, NOW, standing)
        standing.spend(0.03, NOW)
    assert standing.rest(NOW) > 0


def test_a_large_request_that_is_refused_costs_by_its_size_and_one_that_is_answered_does_not() -> None:
    standing = Standing(LIMITS, NOW)
    conduct = Conduct(LIMITS, NOW, standing)
    for _ in range(1_000):
        standing.spend(0.004, NOW)
        conduct.finish(wire.OK, NOW, 400_000)
    assert standing.rest(NOW) == 0
    for _ in range(100):
        conduct.finish(wire.RESOURCE_EXHAUSTED, NOW, 400_000)
    assert standing.rest(NOW) > 0
