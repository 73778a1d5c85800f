"""What `keyreeve doctor` finds in the database of a CA."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime

from keyreeve.values import AuthorityState
from keyreeve_ca.halt.service import HaltState
from keyreeve_ca.store.sql import CaStore
from keyreeve_chassis.database.binding import DatabaseBinding
from keyreeve_chassis.keys.ports import KeyStore
from keyreeve_chassis.local_admin.database_findings import key_finding, trust_table_finding
from keyreeve_chassis.local_admin.findings import Finding
from keyreeve_chassis.trust_tables.seals import Seals

_DAY = 86_400


def control_plane_findings(
    open_store: Callable[[Seals | None], CaStore],
    binding: DatabaseBinding,
    open_keystore: Callable[[], KeyStore],
    trust_domain: str,
    now: Callable[[], int],
) -> Iterator[Finding]:
    """Examine the control plane's row, its key-encryption key, the trust tables, and the expiry of its authorities."""
    recalled = binding.recall()
    control_plane, authorities = open_store(None).read_here(lambda tx: (tx.control_plane(), tx.authorities()))
    binding.check(None if control_plane is None else control_plane.bound, recalled)
    if control_plane is None or not control_plane.bootstrapped_at:
        yield Finding("control plane", ok=False, message="it has not been made yet", fix="Start the service once")
        return
    ok = control_plane.trust_domain == trust_domain
    yield Finding(
        "control plane", ok, f"trust domain {control_plane.trust_domain}", "" if ok else "Set trust_domain back to it"
    )
    kek = key_finding(open_keystore, control_plane.key_check)
    yield kek
    if kek.ok:
        store = open_store(Seals.of(open_keystore()))
        yield _issuance(store.read_here(lambda tx: tx.halt.state()))
        yield trust_table_finding(store.read_here(lambda tx: tx.trust.verify()), "ca")
    for authority in authorities:
        if authority.state is not AuthorityState.ACTIVE:
            continue
        days = (authority.not_after - now()) // _DAY
        total = (authority.not_after - authority.not_before) // _DAY
        yield Finding(
            "expiry",
            ok=days > total / 10,
            message=f"authority {authority.authority_id} expires in {days} days",
            fix="" if days > total / 10 else "Create and activate its successor: keyreeve authority create",
        )


def _issuance(halt: HaltState) -> Finding:
    if not halt.halted:
        return Finding("issuance", ok=True, message="certificates are issued")
    since = datetime.fromtimestamp(halt.halted_at or 0, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    message = f"halted since {since} by {halt.halted_by}: {halt.halt_reason}"
    return Finding("issuance", ok=False, message=message, fix="Resume it: keyreeve issuance resume")
