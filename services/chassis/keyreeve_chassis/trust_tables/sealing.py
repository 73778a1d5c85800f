"""Sealing new trust tables at a start."""

from keyreeve_chassis.trust_tables.ports import TrustRecords


def seal_at_start(trust: TrustRecords, *, ever_sealed: bool) -> bool:
    """Seal tables that were never sealed; return whether there were any.

    `ever_sealed` says that this database has had seals: then missing ones were removed, which is left to be found.
    """
    new = trust.unsealed()
    if new is None and not ever_sealed:
        trust.seal()
        return True
    if new:
        trust.seal(new)
        return True
    return False
