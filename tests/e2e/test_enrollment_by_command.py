"""Enrollment with the `keyreeve` command, also with kill -9 at each durable step."""

import json
import os
import stat
from pathlib import Path

import pytest

from keyreeve.token_values import TokenState
from support.control_plane import ControlPlane

STEPS = ("ca.enroll.before_bind", "ca.enroll.after_bind", "ca.enroll.before_issued")
"""In the order of an enrollment: once a key is bound, the next attempt does not bind it again."""
KILLS = STEPS if "KEYREEVE_KILLS" in os.environ else STEPS[-1:]
"""`make faults` kills at each."""


def make_token(control_plane: ControlPlane, identity: str, file: Path) -> str:
    done = control_plane.run("token", "create", identity, "--save", file, "-q")
    assert done.code == 0, done.err
    return done.out.strip()


def test_an_enrollee_enrolls_calls_and_renews_by_command(control_plane: ControlPlane, tmp_path: Path) -> None:
    file, directory = tmp_path / "token", tmp_path / "web"
    name = make_token(control_plane, "workloads/web/one", file)
    done = control_plane.run("enroll", "--dir", directory, "-o", "json", given=file.read_bytes())
    assert done.code == 0, done.err
    assert done.document["identity"] == "spiffe://dev.localhost/workloads/web/one"
    assert stat.S_IMODE((directory / "key.pem").stat().st_mode) == 0o600
    context = done.document["context"]
    made = control_plane.run(
        "cert", "issue", "web.example.test", "--context", context, "--out", tmp_path / "tls", "-o", "json"
    )
    assert made.code == 0, made.err
    assert control_plane.run("cert", "renew", "--context", context).code == 0
    listed = {row["name"]: row["state"] for row in control_plane.run("token", "list", "-o", "json").document}
    assert listed[name] in {TokenState.BOUND, TokenState.CLOSED}
    again = control_plane.run("enroll", file, "--dir", directory)
    assert again.code == 2
    another = control_plane.run("enroll", file, "--dir", tmp_path / "other", "-o", "json")
    # The second reason once the first call with the certificate has closed the token, which erases its keys.
    assert json.loads(another.err)["error"]["reason"] in {"TOKEN_USED", "TOKEN_REFUSED"}


@pytest.mark.faults
@pytest.mark.timeout(240)
def test_an_enrollment_that_kill_9_cut_short_is_finished_by_the_next_attempt(
    own_control_plane: ControlPlane, tmp_path: Path
) -> None:
    file, directory = tmp_path / "token", tmp_path / "me"
    own_control_plane.up()
    make_token(own_control_plane, "workloads/killed", file)
    for failpoint in KILLS:
        own_control_plane.down()
        own_control_plane.up(KEYREEVE_ALLOW_FAILPOINTS="1", KEYREEVE_FAILPOINTS=f"{failpoint}=crash")
        cut = own_control_plane.run("enroll", file, "--dir", directory, "--timeout", "4")
        assert cut.code == 3, cut.err
        assert [path.name for path in directory.iterdir()] == ["key.pem"]
    own_control_plane.down()
    own_control_plane.up()
    done = own_control_plane.run("enroll", file, "--dir", directory)
    assert done.code == 0, done.err
    with own_control_plane.client() as client:
        found = list(client.certificates.list(identity="spiffe://dev.localhost/workloads/killed"))
    assert len(found) == 1
