"""`--service`: operations and the audit log of another service than the CA."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from keyreeve.cli.administration import audit_commands
from keyreeve.operations.v1 import operation_service_pb2 as operation_pb
from support.command_line import Run
from support.fake_ca_server import FakeCa
from support.sdk_calls import CHECKPOINT, EXAMPLES, OPERATION


@pytest.fixture
def membership(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCa]:
    """A control plane of which the context names the membership service alone."""
    with FakeCa(tmp_path, "membership").running() as running:
        running.context.save(tmp_path / "context.json")
        monkeypatch.setenv("KEYREEVE_CONTEXT", str(tmp_path / "context.json"))
        yield running


def test_operations_of_a_service_are_listed_shown_and_cancelled(run: Run, membership: FakeCa) -> None:
    membership.answer("ListOperations", operation_pb.ListOperationsResponse(operations=[OPERATION]))
    membership.answer("GetOperation", OPERATION)
    membership.answer("CancelOperation", OPERATION)
    assert run("operation", "list", "--service", "membership", "-q").out == "1\n"
    assert run("operation", "show", "1", "--service", "membership", "-q").out == "succeeded\n"
    assert run("operation", "cancel", "1", "--service", "membership", "-q").out == "succeeded\n"
    assert membership.methods() == ["ListOperations", "GetOperation", "CancelOperation"]


def test_the_audit_log_of_a_service_is_listed_and_exported(run: Run, membership: FakeCa, tmp_path: Path) -> None:
    for method in ("ListAuditRecords", "ListAuditEntries"):
        membership.answer(method, EXAMPLES[method].answer)
    membership.answer("GetCheckpoint", CHECKPOINT)
    [record] = run("audit", "list", "--service", "membership", "-o", "json").document
    assert record["method"]
    done = run("audit", "export", tmp_path / "log.jsonl", "--service", "membership")
    assert done.code == 0, done.err
    assert membership.methods() == ["ListAuditRecords", "GetCheckpoint", "ListAuditEntries"]


@pytest.mark.parametrize(
    ("options", "name"),
    [([], "audit-witness.json"), (["--service", "membership"], "audit-witness-membership.json")],
)
def test_each_log_has_a_witness_file_of_its_own(
    run: Run, fake: FakeCa, monkeypatch: pytest.MonkeyPatch, options: list[str], name: str
) -> None:
    used: list[Path] = []
    report = dict.fromkeys(("checkpoint", "signed_at", "records", "commits", "purged", "witness", "tail"), 0)

    def verify(log: Any, path: Path) -> dict[str, int]:
        used.append(path)
        return report

    monkeypatch.setattr(audit_commands, "verify_service_log", verify)
    context = fake.context.path or Path(fake.directory) / "context.json"
    text = context.read_text()
    context.write_text(re.sub(r'"endpoints": {', '"endpoints": {"membership": ["127.0.0.1:1"],', text))
    assert run("audit", "verify", *options).code == 0
    assert used == [fake.context.certificate.with_name(name)]


def test_without_the_option_the_ca_is_asked(run: Run, fake: FakeCa) -> None:
    fake.answer("GetOperation", OPERATION)
    assert run("operation", "show", "1", "-q").out == "succeeded\n"
    assert run("operation", "show", "1", "-q", "--service", "ca").out == "succeeded\n"


def test_a_service_that_the_context_does_not_name_is_refused(run: Run, fake: FakeCa) -> None:
    done = run("audit", "list", "--service", "membership", "-o", "json")
    assert done.code == 3
    assert done.error["reason"] == "CONTEXT_INVALID"
    assert "no address of 'membership'; it knows ca" in done.error["message"]
    assert fake.received == []
