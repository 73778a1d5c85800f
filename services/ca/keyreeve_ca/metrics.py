"""The CA's metrics beside `grpc_server_*`: issuance, commits, expiry. Names: docs/metrics.md."""

from functools import cache

from prometheus_client import Counter, Gauge, Histogram

from keyreeve_ca.issuance.snapshot import IssuanceSnapshot
from keyreeve_ca.store.ports import AuthorityState

# Made once for the process: a registry holds a name once, and a process may run more than one coordinator in its life.
LINT_FINDINGS = Counter("keyreeve_ca_lint_findings_total", "Issued certificates with lint findings.", ["profile"])
CERTIFICATES_PURGED = Counter(
    "keyreeve_ca_certificates_purged_total", "Certificates deleted because they expired longer ago than they are kept."
)
ISSUED = Counter("keyreeve_ca_certificates_issued_total", "Certificates in the ledger.", ["authority", "profile"])
GROUPS_REFUSED = Counter("keyreeve_ca_groups_refused_total", "Groups that the commit gate refused.", ["why"])
BLOCKS_LEASED = Counter("keyreeve_ca_serial_blocks_total", "Blocks of serial numbers leased.", ["authority"])
GROUP_CERTIFICATES = Histogram(
    "keyreeve_ca_commit_group_certificates",
    "Certificates in one group.",
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512),
)
COMMIT_SECONDS = Histogram(
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
