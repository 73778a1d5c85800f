"""CAs with a failing audit sink."""

from pathlib import Path

from keyreeve import errors
from keyreeve.audit import exports
from keyreeve.audit.verifying import Verifier
from support.running_ca import AUDITOR, OPERATOR, RunningCa, server_csr
from support.waiting import wait_for

BOUND = 2.0
"""Timeout of a call in seconds; a refusal must come earlier."""


def sign(ca: RunningCa) -> None:
    ca.client(OPERATOR).certificates.sign("server", server_csr("web.example.test"), timeout=5)


def is_refused(ca: RunningCa) -> errors.AuditUnavailable | None:
    """Try once; return the refusal, or None."""
    client = ca.client(OPERATOR)
    try:
        client.certificates.sign("server", server_csr("web.example.test"), timeout=BOUND)
    except errors.AuditUnavailable as refused:
        return refused
    except errors.DeadlinePassed:
        return None
    return None


def is_refused_for(ca: RunningCa, *reasons: str) -> errors.AuditUnavailable | None:
    """Try once; return the refusal if it has one of these reasons."""
    refused = is_refused(ca)
    return refused if refused is not None and any(reason in refused.message for reason in reasons) else None


def goes_through(ca: RunningCa) -> bool:
    try:
        sign(ca)
    except (errors.AuditUnavailable, errors.DeadlinePassed):
        return False
    return True


def in_file(path: Path) -> Verifier:
    with path.open() as lines:
        spki, segments = exports.read(lines)
        verifier = Verifier(spki)
        for segment in segments:
            verifier.add(segment)
    return verifier


def whole(ca: RunningCa, path: Path) -> None:
    """Check that the file has the whole log without a gap."""
    wanted = ca.client(AUDITOR).audit.checkpoint().checkpoint.k
    verifier = wait_for(
        "the file to be up to date", lambda: v if (v := in_file(path)).last and v.last.k >= wanted else None
    )
    assert verifier.problems == []
