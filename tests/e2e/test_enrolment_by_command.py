"""Enrolment as people do it, with the `keyreeve` program; and with kill -9 at each of its durable steps."""

import os
import stat
from pathlib import Path

import pytest

from keyreeve.token_values import TokenState
from support.plane import Plane

STEPS = ("ca.enrol.before_bind", "ca.enrol.after_bind", "ca.enrol.before_issued")
"""In the order of an enrolment: once a key is bound, the next attempt does not bind it again."""
KILLS = STEPS if "KEYREEVE_KILLS" in os.environ else STEPS[-1:]
"""`make faults` kills at each."""


def make_token(plane: Plane, identity: str, file: Path) -> str:
    done = plane.run("token", "create", identity, "--save", file, "-q")
    assert done.code == 0, done.err
    return done.out.strip()


def test_a_newcomer_enrols_calls_and_renews_by_command(plane: Plane, tmp_path: Path) -> None:
    file, directory = tmp_path / "token", tmp_path / "web"
    name = make_token(plane, "workloads/web/one", file)
    done = plane.run("enrol", "--dir", directory, "-o", "json", given=file.read_bytes())
    assert done.code == 0, done.err
    assert done.document["identity"] == "spiffe://dev.localhost/workloads/web/one"
    assert stat.S_IMODE((directory / "key.pem").stat().st_mode) == 0o600
    context = done.document["context"]
    made = plane.run("cert", "issue", "web.example.test", "--context", context, "--out", tmp_path / "tls", "-o", "json")
    assert made.code == 0, made.err
    assert plane.run("cert", "renew", "--context", context).code == 0
    listed = {row["name"]: row["state"] for row in plane.run("token", "list", "-o", "json").document}
    assert listed[name] in {TokenState.BOUND, TokenState.CLOSED}
    again = plane.run("enrol", file, "--dir", directory)
    assert again.code == 2
    another = plane.run("enrol", file, "--dir", tmp_path / "other", "-o", "json")
    assert another.code == 1


@pytest.mark.faults
@pytest.mark.timeout(240)
def test_an_enrolment_that_kill_9_cut_short_is_finished_by_the_next_attempt(own_plane: Plane, tmp_path: Path) -> None:
    file, directory = tmp_path / "token", tmp_path / "me"
    own_plane.up()
    make_token(own_plane, "workloads/killed", file)
    for failpoint in KILLS:
        own_plane.down()
        own_plane.up(KEYREEVE_ALLOW_FAILPOINTS="1", KEYREEVE_FAILPOINTS=f"{failpoint}=crash")
        cut = own_plane.run("enrol", file, "--dir", directory, "--timeout", "4")
        assert cut.code == 3, cut.err
        assert [path.name for path in directory.iterdir()] == ["key.pem"]
    own_plane.down()
    own_plane.up()
    done = own_plane.run("enrol", file, "--dir", directory)
    assert done.code == 0, done.err
    with own_plane.client() as client:
        found = list(client.certificates.list(identity="spiffe://dev.localhost/workloads/killed"))
    assert len(found) == 1
