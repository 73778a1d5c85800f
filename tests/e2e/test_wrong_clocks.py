"""A client whose clock is wrong by years is told so (libfaketime), whatever its certificate errors say."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from support.control_plane import ControlPlane
from support.faketime import later
from support.programs import FAKETIME, needs

pytestmark = needs(FAKETIME)


@pytest.mark.parametrize(("days", "http"), [(-1500, True), (1500, True), (1500, False)])
def test_a_wrong_client_clock_is_named_as_that(
    days: int, http: bool, control_plane: ControlPlane, tmp_path: Path
) -> None:
    context = json.loads(control_plane.state_directory.context.read_text())
    for key in ("bundle", "estate_bundle", "certificate", "key"):
        context[key] = str(control_plane.state_directory.root / context[key])
    if not http:
        context["http"] = ""
    file = tmp_path / "context.json"
    file.write_text(json.dumps(context))

    wrong = control_plane.run("cert", "list", "--context", file, "-o", "json", extra=later(days))

    error = json.loads(wrong.err)["error"]
    assert error["reason"] == "CLOCK_SKEWED", wrong.err
    assert ("behind" if days < 0 else "ahead") in error["message"]
    theirs = datetime.fromisoformat(error["metadata"]["server_time"])
    assert abs(theirs - datetime.now(UTC)) < timedelta(days=30), "the control plane's time is told, not the client's"
