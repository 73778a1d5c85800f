"""The agent's settings file and the lines of its status."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from keyreeve.errors import ContextInvalid
from keyreeve_agent.peers.view import ArrayView, PeerReach
from keyreeve_agent.programs.ports import LocalProgram, Probe, ProbeProtocol
from keyreeve_agent.settings import load_settings
from keyreeve_agent.status import status_lines, status_of
from support.agent_world import TestArrayCa, epoch_of, material_of, member_of

FULL = """
address: 10.0.0.1:5427
listen: 0.0.0.0:5427
release: "5.40.908"
external_names: [www.example.com]
state_directory: state
endpoints: {membership: ["10.0.0.9:7444"]}
sessions: [/usr/local/bin/sessions, --count]
programs:
  - name: nginx
    reload: [nginx, -s, reload]
    probe: {address: "127.0.0.1:443"}
  - name: postgresql
    reload: [systemctl, reload, postgresql]
    timeout: 30
    directory: /var/lib/postgresql/keyreeve
    owner: postgres
    probe: {address: "127.0.0.1:5432", protocol: postgresql}
"""


def settings(tmp_path: Path, text: str) -> Any:
    path = tmp_path / "agent.yaml"
    path.write_text(text)
    return load_settings(path)


def test_settings_are_read_from_one_file(tmp_path: Path) -> None:
    found = settings(tmp_path, FULL)
    assert found.state_directory == tmp_path / "state"
    assert found.peer == tmp_path / "state" / "peer"
    assert found.endpoints == {"membership": ("10.0.0.9:7444",)}
    assert found.sessions == ("/usr/local/bin/sessions", "--count")
    assert found.programs == (
        LocalProgram("nginx", ("nginx", "-s", "reload"), 10.0, Probe("127.0.0.1:443")),
        LocalProgram(
            "postgresql",
            ("systemctl", "reload", "postgresql"),
            30.0,
            Probe("127.0.0.1:5432", ProbeProtocol.POSTGRESQL),
            Path("/var/lib/postgresql/keyreeve"),
            "postgres",
        ),
    )


def test_an_agent_listens_where_it_is_dialed_unless_told_otherwise(tmp_path: Path) -> None:
    assert settings(tmp_path, "address: 10.0.0.1:5427").listen == "10.0.0.1:5427"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "a mapping is required"),
        ("address: 1", "address"),
        ("address: nowhere", "host:port"),
        ("address: a:1\nadress: b:1", "adress"),
        ("address: a:1\nprograms: [{name: x}]", r"programs\.x\.reload"),
        ("address: a:1\nprograms: [{name: x, reload: 'true'}]", "reload"),
        ("address: a:1\nprograms: [{name: x, reload: [y], timeout: 0}]", "timeout"),
        ("address: a:1\nprograms: [{name: x, reload: [y], probe: {address: 'a:1', protocol: smtp}}]", "protocol"),
        ("address: &a b:1", "anchors"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(ContextInvalid, match=expected):
        settings(tmp_path, text)


def test_the_status_says_who_is_reached_and_that_the_control_plane_is_silent() -> None:
    ca = TestArrayCa.make()
    view = ArrayView("one.example.test", "example.test", "boot")
    assert "array          none yet" in list(status_lines(status_of(view, 1000.0), 1000.0, running=False))
    view.load(material_of(ca.peer("one.example.test"), ca, epoch_of(4, ca)))
    view.follow_roll({name: member_of(name, primary=name.startswith("one")) for name in ("one.example.test", "two")})
    view.reached = {"two": PeerReach("two", False, "PEER_CERTIFICATE_REVOKED")}
    view.heard_at = 900.0
    view.note("program nginx", "it presents another certificate")
    text = "\n".join(status_lines(status_of(view, 1000.0), 1001.0, running=True))
    for expected in (
        "running, status of 1 s ago",
        "arrays/one, epoch 4",
        "primary        one.example.test",
        "answered 101 s ago: what is loaded stays in use until it expires",
        "one.example.test  member, primary  127.0.0.1:1  this server",
        "two  member  127.0.0.1:1  unreachable: PEER_CERTIFICATE_REVOKED",
        "problem        program nginx: it presents another certificate",
    ):
        assert expected in text


def test_a_missing_package_of_the_extra_is_named(tmp_path: Path) -> None:
    (tmp_path / "structlog.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'structlog'\", name='structlog')\n"
    )
    (tmp_path / "agent.yaml").write_text(f'address: 127.0.0.1:1\nrelease: "1"\nstate_directory: {tmp_path}/state\n')
    code = "import sys; from keyreeve_agent.commands import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", code, "--config", str(tmp_path / "agent.yaml"), "run"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        timeout=60,
    )
    assert done.returncode == 78
    assert done.stderr == "the package structlog is missing: pip install 'keyreeve[agent]'\n"
