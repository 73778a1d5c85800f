"""What `keyreeve doctor` finds in the database of any service: its key-encryption key, and altered trust tables."""

from collections.abc import Callable, Sequence

from keyreeve_chassis.keys.ports import KeyStore, KeyStoreError, verify_check_value
from keyreeve_chassis.local_admin.findings import Finding
from keyreeve_chassis.trust_tables.ports import Alteration

_NAMED = 5


def key_finding(open_keystore: Callable[[], KeyStore], key_check: bytes) -> Finding:
    """Whether the key-encryption key is the one with this check value."""
    try:
        verify_check_value(open_keystore(), key_check)
    except KeyStoreError as wrong:
        return Finding("key-encryption key", ok=False, message=wrong.message, fix=wrong.fix)
    return Finding("key-encryption key", ok=True, message="it opens this database's keys")


def trust_table_finding(found: Sequence[Alteration], service: str) -> Finding:
    """Whether something other than the service has changed its trust tables."""
    if not found:
        return Finding("trust tables", ok=True, message="nothing but the service has changed them")
    named = ", ".join(str(one) for one in found[:_NAMED])
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    command = (
        "keyreeve recover trust-tables" if service == "ca" else f"keyreeve recover trust-tables --service {service}"
    )
    fix = f"Restore the database, or see and accept the difference: {command}"
    return Finding("trust tables", ok=False, message=f"altered: {named}{more}", fix=fix)
