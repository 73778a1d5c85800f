"""`keyreeve session` and `keyreeve operator ssh-key`, against a CA in this process."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519

from support.command_line import runner
from support.device import Device
from support.gateway_sessions import Gateway
from support.running_ca import ADMIN, RunningCa, unique


def test_sessions_are_listed_and_closed_by_command(
    sqlite_ca: RunningCa, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, context = runner(capsys), tmp_path / "context.json"
    sqlite_ca.context(ADMIN).save(context)
    session = Gateway(sqlite_ca).open().session.name.removeprefix("sessions/")
    assert session in run("session", "list", "-q", "--context", context).out.split()
    closed = run("session", "close", session, "--output", "json", "--context", context).document
    assert (closed["session"], closed["closed_by"]) == (session, sqlite_ca.identity(ADMIN))
    assert session not in run("session", "list", "-q", "--context", context).out.split()
    assert run("session", "close", "0" * 32, "--context", context).code != 0


def test_ssh_keys_are_registered_listed_and_removed_by_command(
    sqlite_ca: RunningCa, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, context, name = runner(capsys), tmp_path / "context.json", unique("bea")
    sqlite_ca.context(ADMIN).save(context)
    sqlite_ca.know(f"operators/operator/{name}")
    found = []
    for file, options in (("key.pub", ()), ("ca.pub", ("--ca",))):
        (tmp_path / file).write_text(Device(ed25519.Ed25519PrivateKey.generate()).line + "\n")
        arguments = ("ssh-key", "add", name, tmp_path / file, *options, "-q", "--context", context)
        found.append(run("operator", *arguments).out.strip())
    listed = run("operator", "ssh-key", "list", name, "--output", "json", "--context", context).document
    assert [(one["fingerprint"], one["kind"]) for one in listed] == [(found[0], "key"), (found[1], "ca")]
    for fingerprint in found:
        assert run("operator", "ssh-key", "remove", name, fingerprint, "--context", context).code == 0
    assert run("operator", "ssh-key", "list", name, "-q", "--context", context).out == ""
    (tmp_path / "two.pub").write_text((tmp_path / "key.pub").read_text() * 2)
    assert run("operator", "ssh-key", "add", name, tmp_path / "two.pub", "--context", context).code != 0
