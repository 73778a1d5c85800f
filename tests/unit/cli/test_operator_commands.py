"""`keyreeve operator update`: what is sent for a role and for keys, and what never leaves the machine."""

from pathlib import Path

import pytest

from keyreeve.ca.v1 import operator_service_pb2 as pb
from support.command_line import Run
from support.fake_ca_server import FakeCa
from support.sdk_calls import EXAMPLES, OPERATOR

LINE = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f bea"
FINGERPRINT = "SHA256:fingerprint"


@pytest.fixture
def operators(fake: FakeCa) -> FakeCa:
    fake.answer("UpdateOperator", EXAMPLES["UpdateOperator"].answer)
    return fake


@pytest.fixture
def with_a_key(fake: FakeCa) -> FakeCa:
    operator = pb.Operator()
    operator.CopyFrom(OPERATOR)
    operator.keys.add(public_key=LINE, fingerprint=FINGERPRINT)
    fake.answer("UpdateOperator", pb.UpdateOperatorResponse(operator=operator))
    return fake


def test_a_role_alone_leaves_the_keys_as_they_are(run: Run, operators: FakeCa) -> None:
    ran = run("operator", "update", "bea", "--role", "auditor", "-q")
    assert ran.out == "t\n"
    [call] = operators.received
    assert list(call.request.update_mask.paths) == ["role"]


def test_the_role_that_an_operator_has_changes_nothing(run: Run, operators: FakeCa) -> None:
    operators.answer("UpdateOperator", pb.UpdateOperatorResponse(operator=OPERATOR))
    assert "nothing was changed" in run("operator", "update", "bea", "--role", "admin").out


def test_keys_are_read_from_files_as_openssh_writes_them(run: Run, with_a_key: FakeCa, tmp_path: Path) -> None:
    one, more = tmp_path / "id.pub", tmp_path / "authorized_keys"
    one.write_text(f"{LINE}\n")
    more.write_text(f"# those of the desk\n\n{LINE}2\n{LINE}3\n")
    ran = run("operator", "update", "bea", "--keys", one, "--keys", more)
    assert FINGERPRINT in ran.out
    [call] = with_a_key.received
    assert list(call.request.keys) == [LINE, f"{LINE}2", f"{LINE}3"]
    assert list(call.request.update_mask.paths) == ["keys"]
    assert run("operator", "update", "bea", "--keys", one, "-o", "json").document["keys"] == [FINGERPRINT]


def test_all_keys_can_be_taken_away(run: Run, operators: FakeCa) -> None:
    operators.answer("UpdateOperator", pb.UpdateOperatorResponse(operator=OPERATOR))
    assert "no keys" in run("operator", "update", "bea", "--no-keys").out
    [call] = operators.received
    assert list(call.request.update_mask.paths) == ["keys"]
    assert not call.request.keys


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nhunter2\n", "private key"),
        ("# nothing\n", "no key"),
        (None, "No such file"),
    ],
)
def test_what_is_no_file_of_public_keys_is_sent_nowhere(
    run: Run, operators: FakeCa, tmp_path: Path, content: str | None, told: str
) -> None:
    if content is not None:
        (tmp_path / "keys").write_text(content)
    ran = run("operator", "update", "bea", "--keys", tmp_path / "keys")
    assert ran.code == 2
    assert told in " ".join(ran.err.split())
    assert "hunter2" not in ran.err
    assert operators.received == []


@pytest.mark.parametrize("options", [(), ("--no-keys", "--keys", "x"), ("--role", "king")])
def test_an_update_has_to_say_what_changes(run: Run, operators: FakeCa, options: tuple[str, ...]) -> None:
    assert run("operator", "update", "bea", *options).code == 2
    assert operators.received == []
