"""What the release before the renames left behind, on both databases: this release starts on it and reads all of it."""

import hashlib
import json
import lzma
import shutil
import tarfile
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from keyreeve.audit.log import Checkpoint
from keyreeve.values import CrlReason
from keyreeve_ca.app import open_keystore
from keyreeve_ca.certificates.linter import PkilintLinter
from keyreeve_ca.ocsp.messages import Revoked
from keyreeve_ca.ocsp.responder import OcspResponder
from keyreeve_ca.revocation import crl_publisher
from keyreeve_ca.revocation.ports import REASON_CODES
from keyreeve_chassis.keys.ports import SealedKey
from support.running_ca import RunningCa, settings_for
from support.waiting import wait_for

FIXTURES = Path(__file__).parents[2] / "fixtures" / "revision_0011"
NOW_SPELLED = {"not_given": "unspecified"}
"""Words that the renames changed."""


class Kept:
    """A control plane of revision 0011 that this release runs, and what was true of it then."""

    def __init__(self, ca: RunningCa, facts: dict[str, Any]) -> None:
        self.ca = ca
        self.facts = facts


@pytest.fixture(params=["sqlite", "postgresql"], scope="module")
def kept(request: pytest.FixtureRequest) -> Iterator[Kept]:
    kind = request.param
    facts = json.loads((FIXTURES / f"{kind}-facts.json").read_text())
    directory = Path(tempfile.mkdtemp(prefix="kr-"))
    try:
        with tarfile.open(FIXTURES / f"{kind}-state.tar.xz") as archive:
            archive.extractall(directory, filter="tar")
        url = None
        if kind == "postgresql":
            server = request.getfixturevalue("postgresql_server")
            server.execute("CREATE DATABASE revision_0011")
            server.restore("revision_0011", lzma.decompress((FIXTURES / "postgresql-dump.sql.xz").read_bytes()))
            url = server.url("revision_0011")
        ca = RunningCa(
            settings_for(
                kind,
                directory,
                url,
                trust_domain=facts["trust_domain"],
                state_directory=directory / ".keyreeve" / "ca",
                http_url="http://127.0.0.1:8080",
            ),
            directory,
            workers=1,
        )
        ca.start()
        try:
            yield Kept(ca, facts)
        finally:
            ca.stop()
            if kind == "postgresql":
                server.execute("DROP DATABASE revision_0011 WITH (FORCE)")
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def test_every_key_opens_and_is_the_one_that_it_was(kept: Kept) -> None:
    store, keystore = kept.ca.coordinator.issuance.store, open_keystore(kept.ca.settings)
    opened = 0
    for fact in kept.facts["keys"]:
        if fact["destroyed"]:
            continue
        key: SealedKey = kept.ca.run(store.read(lambda tx, key_id=fact["key_id"]: tx.key(key_id)))
        assert key.key_type == fact["key_type"]
        assert keystore.open(key).spki == key.spki
        opened += 1
    assert opened >= 8


def test_the_whole_audit_log_verifies_and_goes_on(kept: Kept) -> None:
    audit, then = kept.ca.client().ca.audit, kept.facts["audit"]["newest"]
    old = audit.checkpoint(then["k"])
    assert hashlib.sha256(old.body).hexdigest() == then["body_sha256"]
    wait_for("a further checkpoint", lambda: Checkpoint.decode(audit.checkpoint().body).k > then["k"] or None)
    report = audit.verify()
    assert report.problems == ()
    assert report.links >= kept.facts["rows"]["audit_log"]


def test_old_revocation_reasons_are_shown_in_the_words_of_rfc_5280(kept: Kept) -> None:
    client = kept.ca.client()
    reasons = kept.facts["known"]["revoked_one_by_one"]
    assert sorted(reasons) == sorted(kept.facts["reasons"]["leaf"])
    for then, serial in reasons.items():
        certificate = client.certificates.get(serial)
        assert certificate.revocation_reason is CrlReason(NOW_SPELLED.get(then, then))
        assert REASON_CODES[certificate.revocation_reason.value] == kept.facts["reasons"]["leaf"][then]["crl_reason"]


def test_crls_and_ocsp_of_roots_give_the_reasons_of_revoked_authorities_as_before(kept: Kept) -> None:
    issuance = kept.ca.coordinator.issuance
    snapshot = issuance.snapshot()
    responder = OcspResponder(
        issuance.store,
        issuance.keystore,
        issuance.snapshot,
        PkilintLinter(kept.facts["trust_domain"]),
        "",
        kept.ca.clock.now,
    )
    codes = {then: fact["crl_reason"] for then, fact in kept.facts["reasons"]["authority"].items()}
    seen = Counter[str]()
    for root_id in ("estate-root-1", "estate-root-2"):
        root, then = snapshot.authorities[root_id], kept.facts["known"]["contract"]["crl_shard_0"][root_id]["reasons"]
        entries = crl_publisher._authorities_listed(snapshot, root)
        assert Counter(entry.reason for entry in entries) == {codes[reason]: count for reason, count in then.items()}
        for entry in entries:
            status = kept.ca.run(responder._status(root, int.from_bytes(entry.serial, "big")))
            assert status == Revoked(entry.revoked_at, entry.reason)
        seen.update(then)
    assert set(seen) == set(codes)


def test_a_bulk_revocation_that_was_under_way_goes_on_to_its_end_with_its_reason(kept: Kept) -> None:
    then = kept.facts["known"]["operation_that_goes_on"]
    client = kept.ca.client()
    *_, operation = client.ca.operations.watch(then["name"])
    assert (operation.done, operation.total) == (then["total"], then["total"])
    assert {client.certificates.get(serial).revocation_reason for serial in then["certificates"]} == {
        CrlReason(then["reason"])
    }


def test_authorities_operators_tokens_and_profiles_are_as_they_were(kept: Kept) -> None:
    client, then = kept.ca.client(), kept.facts["known"]["contract"]
    states = {a.name.removeprefix("authorities/"): a.state.value for a in client.authorities.list()}
    assert states == then["authorities"]
    operators = {o.name.removeprefix("operators/"): o for o in client.operators.list()}
    for name, fact in then["operators"].items():
        assert (operators[name].person_uid, operators[name].role.value) == (fact["person_uid"], fact["role"])
    tokens = {t.name.removeprefix("enrollmentTokens/"): t.state.value for t in client.tokens.list()}
    assert {t: s for t, s in tokens.items() if s not in {"open", "expired"}}.items() <= then["tokens"].items()
    profiles = {p.name.removeprefix("profiles/"): p.version for p in client.profiles.list()}
    assert profiles["long-server"] == then["profiles"]["long-server"]
    assert profiles["enrollment"] == 1, "the built-in profile under its new name"


def test_every_certificate_of_then_is_in_the_ledger_with_its_state(kept: Kept) -> None:
    client, now = kept.ca.client(), time.time()
    for serial, state in kept.facts["known"]["contract"]["certificates"].items():
        certificate = client.certificates.get(serial)
        if state == "valid" and certificate.not_after.timestamp() > now:
            assert certificate.state.value in {"valid", "revoked"}
        if state.startswith("revoked"):
            assert certificate.state.value == "revoked"
