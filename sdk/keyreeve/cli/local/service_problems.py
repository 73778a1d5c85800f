"""What keeps a running service from its work, as its metrics tell."""

from collections.abc import Iterator

from keyreeve.cli.clock_check import WITHOUT_PROXY
from keyreeve.cli.supervision.local_services import Addresses

_ANSWER_SECONDS = 3.0
_PROBLEMS = {
    "keyreeve_database_reachable 0.0": "its database does not answer: nothing is issued or changed until it does",
    "keyreeve_ca_issuance_halted 1.0": "issuance is halted: `keyreeve issuance status` says why",
    "keyreeve_credentials_sealed 1.0": "the vault is sealed: `keyreeve vault status --array NAME` says why",
}


def problems_of(addresses: Addresses) -> list[str]:
    """Return what a service's metrics say against it; empty also when it has no page of metrics."""
    if addresses.metrics is None:
        return []
    url = f"http://{addresses.metrics}/metrics"
    try:
        with WITHOUT_PROXY.open(url, timeout=_ANSWER_SECONDS) as page:
            return list(problems_in(page.read().decode(errors="replace")))
    except (OSError, ValueError):
        return []


def problems_in(page: str) -> Iterator[str]:
    """The problems that a page of metrics shows."""
    lines = set(page.splitlines())
    yield from (problem for line, problem in _PROBLEMS.items() if line in lines)
    if any(line.startswith("keyreeve_audit_sink_failing{") and line.endswith(" 1.0") for line in lines):
        yield "a sink of its audit log fails: its log says why"
