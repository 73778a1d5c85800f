"""Members' records, set by orders of the membership service and carried to all services by the caller feed."""

from collections.abc import Sequence

from keyreeve import errors
from keyreeve.caller_values import MemberRecord
from keyreeve.identity import Role, SpiffeId
from keyreeve_ca.arrays.orders import follow_order, is_array
from keyreeve_ca.arrays.ports import Order
from keyreeve_ca.store.ports import Transaction

MAX_RECORDS = 500


def set_members(
    tx: Transaction, trust_domain: str, array: str, order: Order | None, records: Sequence[MemberRecord]
) -> None:
    """Record members of an array. Raises `FieldInvalid`, `OrderOutdated`."""
    if not 1 <= len(records) <= MAX_RECORDS:
        raise _invalid("members", f"1 to {MAX_RECORDS} records are required, not {len(records)}")
    for at, record in enumerate(records):
        _check(f"members[{at}]", record, trust_domain)
    if not is_array(array):
        raise _invalid("array", "a name of the form arrays/{array} is required")
    follow_order(tx.arrays, array, order)
    for record in records:
        tx.arrays.set_member(record)


def _check(field: str, record: MemberRecord, trust_domain: str) -> None:
    try:
        identity = SpiffeId.parse(record.identity)
    except ValueError as wrong:
        raise _invalid(f"{field}.identity", str(wrong)) from None
    if identity.role is not Role.MEMBER or identity.trust_domain != trust_domain:
        raise _invalid(f"{field}.identity", f"a SPIFFE ID spiffe://{trust_domain}/members/... is required")


def _invalid(field: str, what: str) -> errors.KeyreeveError:
    return errors.FieldInvalid(f"{field}: {what}", violations=[errors.Violation(field, what)])
