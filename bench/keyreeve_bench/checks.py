"""Self-checks of a benchmark: a figure counts only if all its certificates are in the ledger and valid."""

from base64 import b64decode
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from keyreeve import Client
from keyreeve.audit.log import Checkpoint, digest
from keyreeve.audit.verifying import Witnessed
from keyreeve.context import Context
from keyreeve.errors import KeyreeveError
from keyreeve_bench import messages, openssl
from keyreeve_bench.children import Document
from keyreeve_bench.ledger import Ledger, LedgerUnreadable, compare, sampled_missing
from keyreeve_bench.settings import BenchSettings

PER_ANSWER = 3
"""Certificates of each sampled batch that OpenSSL verifies."""
_AUDIT_SECONDS = 60.0
LOOKED_UP = 50
"""Certificates looked up one by one when the database cannot be read."""


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one check."""

    check: str
    ok: bool
    message: str

    def to_document(self) -> dict[str, Any]:
        """The check as JSON values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Issued:
    """All certificates issued to a benchmark, warm-up included."""

    acknowledged: int
    unknown: int
    """Certificates of failed calls that may have been issued all the same."""
    serials: bytes
    samples: Sequence[Document]
    since: int
    """Lower bound of the start of every call, in seconds since 1970 by the service's clock."""
    marker: str


def check_unique(issued: Issued) -> Check:
    """Check that every certificate has its own serial number."""
    numbers = {issued.serials[at : at + 16] for at in range(0, len(issued.serials), 16)}
    ok = len(numbers) == issued.acknowledged == len(issued.serials) // 16
    return Check("serial numbers", ok, f"{len(numbers):,} different ones in {issued.acknowledged:,} acknowledgements")


def check_ledger(issued: Issued, settings: BenchSettings, ledger: Ledger | None, get: Callable[[str], object]) -> Check:
    """Check that the ledger holds every acknowledged certificate, and no other except for lost answers."""
    if ledger is not None:
        try:
            rows = ledger.issued(settings.profile, issued.since)
            # Coalesced batches have request ids made by the SDK, so other callers' certificates cannot be excluded.
            marked = settings.client == "grpc"
            stored = [serial for serial, request_id in rows if not marked or request_id.endswith(issued.marker)]
        except LedgerUnreadable as failure:
            return Check("ledger", ok=False, message=str(failure))
        found = compare(issued.serials, stored)
        ok = found.missing == 0 and found.duplicates == 0 if not marked else found.holds(issued.unknown)
        whose = "" if marked else " or issued to other callers"
        return Check(
            "ledger",
            ok,
            f"{found.stored:,} rows for {found.acknowledged:,} acknowledgements: {found.missing:,} missing, "
            f"{found.unacknowledged:,} without an acknowledgement{whose} ({issued.unknown:,} answers lost), "
            f"{found.duplicates:,} twice",
        )
    step = max(16, len(issued.serials) // 16 // LOOKED_UP * 16)
    sample = [issued.serials[at : at + 16].hex() for at in range(0, len(issued.serials), step)]
    missing = sampled_missing(get, sample)
    return Check("ledger", missing == 0, f"a sample of {len(sample)} was looked up, {missing} missing")


def check_openssl(issued: Issued, context: Context, batch: int) -> Check:
    """Check that a sample from all runs verifies with the `openssl` program."""
    leaves = [leaf for sample in issued.samples for leaf in _certificates(sample, batch)[:PER_ANSWER]]
    roots = b"".join(path.read_bytes() for path in (context.estate_bundle, context.bundle))
    good = openssl.verify(leaves, roots)
    if good is None:
        return Check("openssl verify", ok=True, message="skipped: there is no `openssl` on PATH")
    return Check(
        "openssl verify", bool(leaves) and good == len(leaves), f"{good} of {len(leaves)} sampled certificates"
    )


def last_checkpoint(context: Context) -> Witnessed | None:
    """Fetch the last checkpoint of the audit log; None when there is none or this caller may not read it."""
    with Client(context) as client:
        try:
            body = client.audit.checkpoint().body
        except KeyreeveError:
            return None
    return Witnessed(Checkpoint.decode(body).k, digest(body))


def check_audit(seen: Witnessed | None, client: Client) -> Check:
    """Check that the audit log is consistent with the checkpoint seen before the benchmark."""
    if seen is None:
        return Check("audit log", ok=True, message="skipped: there is none, or this caller may not read it")
    try:
        found = client.audit.verify(after_checkpoint=seen.k, witnessed=[seen], timeout=_AUDIT_SECONDS)
    except KeyreeveError as failure:
        return Check("audit log", ok=False, message=failure.message)
    problems = [f"{problem.kind} {problem.where}: {problem.message}" for problem in found.problems]
    message = f"{found.records:,} records in {found.links:,} commits, {len(problems)} problems"
    return Check("audit log", not problems, "; ".join((message, *problems[:3])))


def _certificates(sample: Document, batch: int) -> list[tuple[bytes, tuple[bytes, ...]]]:
    if sample["raw"]:
        return messages.certificates_in(b64decode(sample["raw"]), batch)
    return [(b64decode(der), tuple(b64decode(above) for above in chain)) for der, chain in sample["certificates"]]
