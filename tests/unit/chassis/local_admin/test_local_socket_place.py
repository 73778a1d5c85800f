import os
from pathlib import Path

import pytest

from keyreeve_ca.settings import CaSettings
from keyreeve_chassis.local_admin.socket import serve_local_admin
from keyreeve_chassis.processes.refusals import StartRefused


@pytest.mark.parametrize(("length", "kept"), [(100, True), (101, False)])
def test_a_socket_whose_path_would_be_too_long_gets_a_short_one(length, kept):
    state = Path("/" + "s" * (length - len("//run/coordinator.sock")))
    own = state / "run" / "coordinator.sock"
    assert len(os.fsencode(own)) == length
    assert (CaSettings(state_directory=state).coordinator_socket == own) is kept


async def test_a_socket_directory_of_another_user_stops_the_start(tmp_path, monkeypatch):
    tmp_path.chmod(0o700)
    other_user = os.geteuid() + 1
    monkeypatch.setattr("os.geteuid", lambda: other_user)
    with pytest.raises(StartRefused, match="belongs to another user"):
        await serve_local_admin(tmp_path / "coordinator.sock", {})


async def test_a_socket_directory_that_others_may_enter_stops_the_start(tmp_path):
    tmp_path.chmod(0o755)
    with pytest.raises(StartRefused, match="chmod 700"):
        await serve_local_admin(tmp_path / "coordinator.sock", {})
