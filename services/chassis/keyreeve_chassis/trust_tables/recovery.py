"""Sealing altered trust tables by `recover trust-tables` on the local admin socket."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from keyreeve.audit.record import Pairs, clean
from keyreeve_chassis.audit.trail import CallRecord
from keyreeve_chassis.database.ports import Store
from keyreeve_chassis.idempotency.mutation import committed_with
from keyreeve_chassis.trust_tables.ports import Alteration
from keyreeve_chassis.trust_tables.watching import HasTrust, TrustWatch

_RECORDED = 50
"""Differences in one audit record; it says how many there were."""


T = TypeVar("T", bound="Recovering")


class Recovering(HasTrust, Protocol):
    """A transaction with trust tables and audit records."""

    @property
    def audit(self) -> list[bytes]: ...


async def recover_trust_tables(
    store: Store[T],
    watch: TrustWatch,
    payload: Any,  # noqa: ANN401 - plain values
    record: CallRecord,
    *,
    sealed: Callable[[T], object] = lambda _: None,
) -> object:
    """Return the differences; with `seal` in the payload, accept the tables as they are, in one transaction.

    `sealed` does in it what makes other processes read anew.
    """
    seal = bool(payload["seal"])

    def work(tx: T) -> Sequence[Alteration]:
        found = tx.trust.verify()
        if seal:
            tx.trust.seal()
            sealed(tx)
            tx.audit.append(record.of_success(_results(found, sealed="yes")))
        return found

    if seal:
        found = await committed_with(record, store.write(work))
    else:
        found = await store.read(work)
        for field, value in _results(found, sealed="no"):
            record.tell(field, value)
    await store.read(watch.look_at_all)
    return {
        "sealed": seal,
        "alterations": [{"table": one.table, "key": one.key, "problem": str(one.problem)} for one in found],
    }


def _results(found: Sequence[Alteration], *, sealed: str) -> Pairs:
    altered = (("altered", clean(str(one))) for one in found[:_RECORDED])
    return (("sealed", sealed), ("alterations", str(len(found))), *altered)
