"""`keyreeve audit` against real processes: listing, verifying with a witness, exporting."""

import base64
import json
import uuid
from contextlib import suppress

import pytest

from keyreeve.errors import NotFound
from support.control_plane import ControlPlane, Done
from support.waiting import wait_for


def settled(control_plane: ControlPlane) -> None:
    """Wait until what has been done so far is in the log."""
    mark = uuid.uuid4().hex
    with control_plane.client() as client:
        with suppress(NotFound):
            client.certificates.get(mark)
        wait_for("the log", lambda: list(client.audit.list(resource=f"certificates/{mark}")))


def good(done: Done) -> Done:
    assert done.code == 0, done.err
    return done


@pytest.mark.alone
def test_what_was_done_is_listed_verified_and_exported(control_plane, tmp_path):
    good(control_plane.run("cert", "issue", "audited.example.test", "--out", tmp_path / "certificate"))
    settled(control_plane)
    told = good(control_plane.run("audit", "list", "--method", "SignCertificate", "-o", "json")).document
    assert told[-1]["code"] == "OK"
    assert told[-1]["targets"] == ["item.profile=profiles/server"]
    witness, export = tmp_path / "witness.json", tmp_path / "export.jsonl"
    first = good(control_plane.run("audit", "verify", "--witness", witness))
    assert "the log is complete" in first.out
    assert "is new" in first.out
    good(control_plane.run("audit", "export", export))
    offline = good(control_plane.run("audit", "verify", "--file", export, "--witness", witness, "-o", "json")).document
    assert offline["records"] > 0
    again = good(control_plane.run("audit", "verify", "--witness", witness, "-o", "json")).document
    assert "had seen checkpoint" in again["witness"]


def test_an_export_that_was_changed_is_refused(control_plane, tmp_path):
    settled(control_plane)
    export = tmp_path / "export.jsonl"
    good(control_plane.run("audit", "export", export))
    lines = export.read_text().splitlines(keepends=True)
    at = next(i for i, line in enumerate(lines) if line.startswith('{"link"'))
    link = json.loads(lines[at])
    body = bytearray(base64.b64decode(link["link"]["bodies"]))
    body[-1] ^= 1
    link["link"]["bodies"] = base64.b64encode(bytes(body)).decode()
    for changed in (
        [*lines[:at], json.dumps(link) + "\n", *lines[at + 1 :]],
        [*lines[:at], *lines[at + 1 :]],
        lines[:-1],
        [*lines[:-1], lines[-1].replace('"signature": "ME', '"signature": "MD')],
    ):
        if changed == lines:
            continue
        export.write_text("".join(changed))
        done = control_plane.run("audit", "verify", "--file", export)
        assert done.code in {1, 2}, done.out
        assert "AUDIT_TAMPERED" in done.err or "FILE_UNUSABLE" in done.err


def test_a_log_that_a_witness_has_seen_further_is_refused(control_plane, tmp_path):
    settled(control_plane)
    witness = tmp_path / "witness.json"
    good(control_plane.run("audit", "verify", "--witness", witness))
    from keyreeve.audit.log import Checkpoint
    from keyreeve.audit.witness import Witness

    known = Witness.load(witness)
    later = known.checkpoint._replace(k=known.checkpoint.k + 10_000)
    Witness(known.spki, Checkpoint(*later).encode(), known.signature).save(witness)
    done = control_plane.run("audit", "verify", "--witness", witness)
    assert done.code == 1
    assert "AUDIT_TAMPERED" in done.err
