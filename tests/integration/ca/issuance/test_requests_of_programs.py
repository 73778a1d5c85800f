"""Requests made by real programs, and in the shape of devices: most are signed, and each refusal has one of four causes.

The table in docs/requests.md is what this test finds. `KEYREEVE_WRITE_TABLES=1` writes it.
"""

import os
import re
from pathlib import Path

import pytest
from cryptography import x509

from keyreeve.errors import KeyreeveError
from support.running_ca import RunningCa

ROOT = Path(__file__).parents[4]
REQUESTS = ROOT / "tests" / "fixtures" / "requests"
PAGE = ROOT / "docs" / "requests.md"
CAUSES = {
    "NAME_REFUSED": "names",
    "NAME_MISSING": "names",
    "TOO_MANY_NAMES": "names",
    "EXTENSION_REFUSED": "CA request",
    "KEY_TYPE_REFUSED": "key",
    "KEY_WEAK": "key",
    "CSR_SIGNATURE_INVALID": "signature",
}
_TABLE = re.compile(r"(<!-- table of requests -->\n).*?(<!-- end -->)", re.DOTALL)


_known: dict[int, dict[Path, str]] = {}
"""By control plane: the requests are sent once to each."""


@pytest.fixture
def outcomes(ca: RunningCa) -> dict[Path, str]:
    """What becomes of each request under the profile `server`: empty, or the reason of the refusal."""
    if id(ca) not in _known:
        _known[id(ca)] = send_all(ca)
    return _known[id(ca)]


def send_all(ca: RunningCa) -> dict[Path, str]:
    found = {}
    for file in sorted(REQUESTS.glob("*/*.csr")):
        try:
            signed = ca.client().certificates.sign("server", file.read_bytes())
        except KeyreeveError as refusal:
            found[file] = refusal.reason
            continue
        found[file] = ""
        certificate = x509.load_der_x509_certificate(signed.certificate_der)
        assert len(certificate.subject) <= 1, "the profile has no attributes beside the CN"
    return found


def test_of_a_hundred_requests_of_ten_programs_85_percent_are_signed(outcomes: dict[Path, str]) -> None:
    assert len({file.parent for file in outcomes}) >= 8
    assert len(outcomes) >= 100
    assert sum(not reason for reason in outcomes.values()) >= 0.85 * len(outcomes)


def test_only_what_changes_whom_or_what_is_certified_is_refused(outcomes: dict[Path, str]) -> None:
    refused = {file for file, reason in outcomes.items() if reason}
    assert refused == {file for file in outcomes if file.name.startswith("refused-")}
    assert {outcomes[file] for file in refused} <= set(CAUSES)
    assert {CAUSES[outcomes[file]] for file in refused} == set(CAUSES.values())


def test_the_table_of_the_page_is_what_was_found(outcomes: dict[Path, str]) -> None:
    lines = ["| made by | requests | signed | refused for |", "| --- | --- | --- | --- |"]
    for program in sorted({file.parent for file in outcomes}):
        reasons = [reason for file, reason in outcomes.items() if file.parent == program]
        causes = sorted(CAUSES[reason] for reason in reasons if reason)
        lines.append(f"| {program.name} | {len(reasons)} | {reasons.count('')} | {', '.join(causes)} |")
    lines.append(f"| all | {len(outcomes)} | {list(outcomes.values()).count('')} | |")
    table = "\n".join(line.replace("|  |", "| |") for line in lines) + "\n"
    page = PAGE.read_text("utf-8")
    if os.environ.get("KEYREEVE_WRITE_TABLES"):
        PAGE.write_text(_TABLE.sub(lambda found: found[1] + table + found[2], page), "utf-8")
        return
    found = _TABLE.search(page)
    assert found is not None
    assert found[0] == f"{found[1]}{table}{found[2]}"
