"""The CA's metrics beside `grpc_server_*`: issuance, commits, expiry. Names: docs/metrics.md."""

from prometheus_client import Counter, Histogram

from keyreeve.values import AuthorityState
from keyreeve_ca.issuance.snapshot import IssuanceSnapshot
from keyreeve_chassis.telemetry.current_values import CurrentValues

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
_NOT_BEFORE = CurrentValues(
    "keyreeve_ca_authority_not_before_timestamp_seconds",
    "When an authority that is trusted was issued.",
    ("authority",),
)
_NOT_AFTER = CurrentValues(
    "keyreeve_ca_authority_not_after_timestamp_seconds", "When an authority that is trusted expires.", ("authority",)
)
_HALTED = CurrentValues("keyreeve_ca_issuance_halted", "1 while issuance is halted, else 0.")


def show_snapshot(snapshot: IssuanceSnapshot) -> None:
    """Show the validity of every trusted authority, and whether issuance is halted."""
    trusted = [
        one for one in snapshot.authorities.values() if one.state in {AuthorityState.ACTIVE, AuthorityState.RETIRING}
    ]
    _NOT_BEFORE.replace({(one.authority_id,): one.not_before for one in trusted})
    _NOT_AFTER.replace({(one.authority_id,): one.not_after for one in trusted})
    _HALTED.set(snapshot.halted_since is not None)
