"""Which peers a member dials in a round, and which of them a report names."""

from keyreeve_agent.peers.rounds import next_peers, reported_peers
from keyreeve_agent.peers.view import PeerReach
from support.agent_world import member_of

NAMES = [f"m{number:03}.test" for number in range(100)]


def test_every_peer_is_dialed_in_turn_and_a_few_at_a_time() -> None:
    others, last, seen = [member_of(name) for name in NAMES], "m042.test", []
    for _ in range(4):
        chosen = next_peers(others, last, most=25)
        seen += [one.name for one in chosen]
        last = seen[-1]
    assert seen[0] == "m043.test"
    assert sorted(seen) == NAMES
    assert next_peers(others[:3], last, most=25) == others[:3]
    assert next_peers([], last) == []


def test_a_report_of_a_large_array_names_the_peers_that_are_not_reached() -> None:
    reached = {name: PeerReach(name, name != NAMES[-1], "" if name != NAMES[-1] else "TIMED_OUT") for name in NAMES}
    told = reported_peers(reached)
    assert len(told) == 64
    assert [one.member for one in told if not one.reachable] == [f"members/{NAMES[-1]}"]
    assert [one.member for one in told] == sorted(one.member for one in told)
