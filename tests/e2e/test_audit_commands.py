"""`keyreeve audit` against real processes: listing, verifying with a witness, exporting; and no secret anywhere."""

import base64
import json
import uuid
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from support.plane import Done, Plane
from support.waiting import wait_for


def settled(plane: Plane) -> None:
    """Wait until what has been done so far is in the log."""
    mark = uuid.uuid4().hex
    plane.run("cert", "show", mark)
    wait_for("the log", lambda: plane.run("audit", "list", "--resource", f"certificates/{mark}", "-q").out)


def good(done: Done) -> Done:
    assert done.code == 0, done.err
    return done


def test_what_was_done_is_listed_verified_and_exported(plane, tmp_path):
    good(plane.run("cert", "issue", "audited.example.test", "--out", tmp_path / "certificate"))
    settled(plane)
    told = good(plane.run("audit", "list", "--method", "SignCertificate", "-o", "json")).document
    assert told[-1]["code"] == "OK"
    assert told[-1]["targets"] == ["item.profile=profiles/server"]
    witness, export = tmp_path / "witness.json", tmp_path / "export.jsonl"
    first = good(plane.run("audit", "verify", "--witness", witness))
    assert "the log is whole" in first.out
    assert "is new" in first.out
    good(plane.run("audit", "export", export))
    offline = good(plane.run("audit", "verify", "--file", export, "--witness", witness, "-o", "json")).document
    assert offline["records"] > 0
    again = good(plane.run("audit", "verify", "--witness", witness, "-o", "json")).document
    assert "had seen checkpoint" in again["witness"]


def test_an_export_that_was_changed_is_refused(plane, tmp_path):
    settled(plane)
    export = tmp_path / "export.jsonl"
    good(plane.run("audit", "export", export))
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
        done = plane.run("audit", "verify", "--file", export)
        assert done.code in {1, 2}, done.out
        assert "AUDIT_TAMPERED" in done.err or "FILE_UNUSABLE" in done.err


def test_a_log_that_a_witness_has_seen_further_is_refused(plane, tmp_path):
    settled(plane)
    witness = tmp_path / "witness.json"
    good(plane.run("audit", "verify", "--witness", witness))
    from keyreeve.audit.log import Checkpoint
    from keyreeve.audit.witness import Witness

    known = Witness.load(witness)
    later = known.checkpoint._replace(k=known.checkpoint.k + 10_000)
    Witness(known.spki, Checkpoint(*later).encode(), known.signature).save(witness)
    done = plane.run("audit", "verify", "--witness", witness)
    assert done.code == 1
    assert "AUDIT_TAMPERED" in done.err


@pytest.mark.faults
def test_no_secret_is_found_in_logs_audit_errors_metrics_database_or_processes(own_plane, tmp_path):
    metrics = {"KEYREEVE_CA_METRICS__PORT": "0"}
    plane = own_plane
    done = plane.up(**metrics)
    outputs = [done.out, done.err]
    token_file = tmp_path / "token"
    outputs.append(good(plane.run("token", "create", "members/web.example.test", "--save", token_file)).out)
    secret = token_file.read_text().strip()
    wrong = tmp_path / "wrong"
    at = len(secret) // 2
    wrong.write_text(secret[:at] + ("A" if secret[at] != "A" else "B") + secret[at + 1 :])
    for number, file in enumerate((wrong, token_file, token_file)):
        tried = plane.run("enrol", file, "--dir", tmp_path / f"newcomer-{number}", "--timeout", "5")
        outputs += [tried.out, tried.err]
    issued = tmp_path / "certificate"
    outputs.append(good(plane.run("cert", "issue", "canary.example.test", "--out", issued)).out)
    outputs.append(plane.run("cert", "show", secret[:60]).err.replace(secret[:60], ""))
    settled(plane)
    export = tmp_path / "export.jsonl"
    good(plane.run("audit", "export", export))
    canaries = {"token": {secret.encode(), secret.rpartition("_")[2][8:40].encode()}}
    for key in [*issued.glob("*key*"), *(tmp_path / "newcomer-1").glob("**/*key*"), plane.context.key]:
        loaded = load_pem_private_key(key.read_bytes(), None)
        der = loaded.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        scalar = loaded.private_numbers().private_value.to_bytes(32, "big")
        forms = {scalar, scalar.hex().encode(), base64.b64encode(der)[30:80], key.read_bytes().split(b"\n")[1]}
        canaries[str(key)] = forms
    kek = (plane.home.root / "ca" / "kek").read_bytes()
    canaries["kek"] = {kek, kek.hex().encode(), base64.b64encode(kek)}
    kept = {plane.home.root / "ca" / "kek", plane.context.key}
    searched: dict[str, bytes] = {"outputs": "".join(outputs).encode(), "export": export.read_bytes()}
    for file in plane.home.root.rglob("*"):
        if file.is_file() and file not in kept:
            searched[str(file)] = file.read_bytes()
    assert any(name.endswith((".db", ".db-wal")) for name in searched), sorted(searched)
    pids = [plane.supervisor(), plane.master(), *(pid for ids in plane.children().values() for pid in ids)]
    for pid in pids:
        for name in ("cmdline", "environ"):
            searched[f"/proc/{pid}/{name}"] = Path(f"/proc/{pid}/{name}").read_bytes()
    hits = [
        (what, where)
        for what, forms in canaries.items()
        for where, data in searched.items()
        if any(form in data for form in forms)
    ]
    assert hits == []
