"""What the command of a site says of the sessions on a server."""

import pytest

from keyreeve_agent.programs.sessions import ServerSessions, read_sessions


def test_a_command_counts_sessions_or_says_that_the_server_is_stopped() -> None:
    assert read_sessions("3 1\n") == ServerSessions(running=3, suspended=1)
    assert read_sessions("stopped\n") == ServerSessions(stopped=True)


@pytest.mark.parametrize("output", ["", "3", "3 1 2", "three one", "stopped now"])
def test_anything_else_is_no_answer(output: str) -> None:
    with pytest.raises(ValueError, match=r"literal|unpack"):
        read_sessions(output)
