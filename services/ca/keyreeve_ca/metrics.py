"""The CA's metrics beside `grpc_server_*`: issuance, commits, expiry. Names: docs/metrics.md."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from prometheus_client import Counter, Gauge, Histogram

from keyreeve_ca.issuance.snapshot import IssuanceSnapshot
from keyreeve_ca.ledger.ports import (
    BlockLease,
    BlockRequest,
    CommitGroup,
    Committed,
    GateClosed,
    IssuedCertificate,
    Ledger,
    RequestOutcome,
)
from keyreeve_ca.store.ports import AuthorityState

# Made once for the process: a registry holds a name once, and a process may run more than one coordinator in its life.
LINT_FINDINGS = Counter("keyreeve_ca_lint_findings_total", "Issued certificates with lint findings.", ["profile"])
CERTIFICATES_PURGED = Counter(
    "keyreeve_ca_certificates_purged_total", "Certificates deleted because they expired longer ago than they are kept."
)
_ISSUED = Counter("keyreeve_ca_certificates_issued_total", "Certificates in the ledger.", ["authority", "profile"])
_REFUSED = Counter("keyreeve_ca_groups_refused_total", "Groups that the commit gate refused.", ["why"])
_BLOCKS = Counter("keyreeve_ca_serial_blocks_total", "Blocks of serial numbers leased.", ["authority"])
_SIZE = Histogram(
    "keyreeve_ca_commit_group_certificates",
    "Certificates in one group.",
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512),
)
_SECONDS = Histogram(
    "keyreeve_ca_commit_seconds",
    "Time from handing a group in to its outcome.",
    buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1, 5),
)
_AUTHORITY_EXPIRY = Gauge(
    "keyreeve_ca_authority_not_after_timestamp_seconds",
    "When an authority that is trusted expires.",
    ["authority"],
    multiprocess_mode="mostrecent",
)


@cache
def _serving_certificate_expiry() -> Gauge:
    # Made by the processes that have such a certificate, when they have it: the page shows the least, and a new one is 0.
    return Gauge(
        "keyreeve_ca_serving_certificate_not_after_timestamp_seconds",
        "When the first of the workers' own certificates expires.",
        multiprocess_mode="livemin",
    )


def show_serving_certificate_expiry(not_after: int) -> None:
    """Set the expiry of this process's serving certificate, in seconds since 1970."""
    _serving_certificate_expiry().set(not_after)


def show_expiry(snapshot: IssuanceSnapshot) -> None:
    """Set the expiry of every trusted authority."""
    for authority in snapshot.authorities.values():
        if authority.state in {AuthorityState.ACTIVE, AuthorityState.RETIRING}:
            _AUTHORITY_EXPIRY.labels(authority.authority_id).set(authority.not_after)


@dataclass(frozen=True)
class MeasuredLedger:
    """A `Ledger` that counts leases and commits."""

    inner: Ledger

    async def lease_block(self, request: BlockRequest) -> BlockLease:
        """See `Ledger.lease_block`."""
        lease = await self.inner.lease_block(request)
        _BLOCKS.labels(request.authority_id).inc()
        return lease

    async def commit(self, group: CommitGroup) -> Sequence[RequestOutcome]:
        """See `Ledger.commit`."""
        began = time.perf_counter()
        try:
            outcomes = await self.inner.commit(group)
        except GateClosed as closed:
            _REFUSED.labels(closed.why).inc()
            raise
        _SECONDS.observe(time.perf_counter() - began)
        _count(group, outcomes)
        return outcomes

    async def find_group(self, group_id: bytes) -> Sequence[RequestOutcome] | None:
        """See `Ledger.find_group`."""
        return await self.inner.find_group(group_id)

    async def close_block(self, block_id: int, worker_id: str) -> bool:
        """See `Ledger.close_block`."""
        return await self.inner.close_block(block_id, worker_id)


def _count(group: CommitGroup, outcomes: Sequence[RequestOutcome]) -> None:
    by_profile: dict[str, int] = {}
    for claim, outcome in zip(group.requests, outcomes, strict=True):
        if not isinstance(outcome, Committed):
            continue
        for item, result in zip(claim.items, outcome.items, strict=True):
            if isinstance(item, IssuedCertificate) and isinstance(result, bytes):
                by_profile[item.profile_name] = by_profile.get(item.profile_name, 0) + 1
    for profile, number in by_profile.items():
        _ISSUED.labels(group.authority_id, profile).inc(number)
    _SIZE.observe(sum(by_profile.values()))
