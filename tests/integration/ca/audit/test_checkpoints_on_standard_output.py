"""`audit.stdout`: each checkpoint is a line on standard output, which a collector of containers' output takes away."""

import json
import os
from pathlib import Path

import pytest

from keyreeve.audit.log import Checkpoint
from keyreeve.audit.verifying import Segment
from keyreeve_chassis.audit.sinks import NEWEST, Feeder, SinkFailed, StandardOutputSink
from keyreeve_chassis.settings.sections import AuditSettings
from support.audit_sinks import goes_through
from support.running_ca import AUDITOR, running
from support.waiting import wait_for


def segment(k: int) -> Segment:
    return Segment(Checkpoint(k, bytes(32), 1, 0, 0, 0, bytes(32), ()).encode(), b"signed", (), ())


def test_a_required_one_lets_changes_through_and_has_the_newest_checkpoint_as_it_was_signed(
    request: pytest.FixtureRequest, capfd: pytest.CaptureFixture[str]
) -> None:
    with running("sqlite", request, audit=AuditSettings(stdout=True, sink_required=True)) as ca:
        wait_for("the sink to be reached", lambda: goes_through(ca))
        signed = ca.client(AUDITOR).audit.checkpoint()
        found: dict[int, dict[str, str]] = {}

        def told() -> dict[str, str] | None:
            for line in capfd.readouterr().out.splitlines():
                if line.startswith('{"audit_checkpoint"'):
                    checkpoint = json.loads(line)["audit_checkpoint"]
                    found[checkpoint["k"]] = checkpoint
            return found.get(signed.checkpoint.k)

        line = wait_for("its line", told)
    assert line["root"] == signed.checkpoint.root.hex()
    assert line["signature"] == signed.signature.hex()
    assert line["size"] == signed.checkpoint.size


def test_it_begins_with_the_newest_and_then_has_each(tmp_path: Path) -> None:
    with (tmp_path / "output").open("wb") as output:
        sink = StandardOutputSink(output.fileno())
        assert sink.reached() == NEWEST
        sink.send([segment(7), segment(8)], b"")
        assert sink.reached() == 8
    lines = (tmp_path / "output").read_text().splitlines()
    assert [json.loads(line)["audit_checkpoint"]["k"] for line in lines] == [7, 8]


def test_an_output_that_nobody_reads_any_more_is_a_failure() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        with pytest.raises(SinkFailed, match="standard output"):
            StandardOutputSink(writer).send([segment(1)], b"")
    finally:
        os.close(writer)
    assert Feeder(StandardOutputSink()).problem() is not None, "it has not been reached yet"
