import os
import tempfile
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


def socket_of_a_deep_state_directory() -> Path:
    return CaSettings(state_directory=Path("/" + "s" * 200)).coordinator_socket


def test_a_short_path_is_in_the_runtime_directory_where_no_other_user_can_make_it_first(tmp_path, monkeypatch):
    tmp_path.chmod(0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert socket_of_a_deep_state_directory().parent.parent == tmp_path


@pytest.mark.parametrize("fault", ["relative", "absent", "open to others", "of another user"])
def test_a_runtime_directory_that_others_could_have_made_is_not_used(tmp_path, monkeypatch, fault):
    place = tmp_path / "runtime"
    if fault != "absent":
        place.mkdir(mode=0o755 if fault == "open to others" else 0o700)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_RUNTIME_DIR", "runtime" if fault == "relative" else str(place))
    if fault == "of another user":
        other_user = os.geteuid() + 1
        monkeypatch.setattr("os.geteuid", lambda: other_user)
    chosen = socket_of_a_deep_state_directory().parent.parent
    assert chosen not in {place, Path("runtime")}
    assert chosen in {Path(f"/run/user/{os.geteuid()}"), Path(tempfile.gettempdir())}


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
