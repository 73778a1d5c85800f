"""Metrics of the membership service beside `grpc_server_*`, read from the roll now and then. Names: docs/metrics.md."""

import asyncio
import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from keyreeve.errors import Unavailable
from keyreeve_chassis.database.ports import Store
from keyreeve_chassis.telemetry.current_values import CurrentValues
from keyreeve_membership.roll.ports import Array
from keyreeve_membership.store.ports import Transaction

PASS_SECONDS = 15.0
_ARRAYS_AT_ONCE = 100
_MEMBER = ("array", "member")

log = logging.getLogger(__name__)

Values = dict[tuple[str, ...], float]


@dataclass(frozen=True)
class RollValues:
    """What the metrics show of the roll; the keys are the values of the labels."""

    members: Values = field(default_factory=dict)
    epochs: Values = field(default_factory=dict)
    acknowledged: Values = field(default_factory=dict)
    reported: Values = field(default_factory=dict)
    clocks: Values = field(default_factory=dict)
    expiry: Values = field(default_factory=dict)

    def add(self, tx: Transaction, array: Array) -> None:
        """Add an array."""
        members = tx.roll.members_of(array.array_id)
        self.epochs[array.array_id,] = array.epoch
        for state, count in Counter(one.state for one in members).items():
            self.members[array.array_id, state.value] = count
        names = {one.member_uid: one.name for one in members}
        acknowledged = tx.roll.acknowledgements(list(names)).values()
        epochs = Counter(one.epoch for one in acknowledged if one.array_id == array.array_id)
        self.acknowledged.update({(array.array_id, str(epoch)): count for epoch, count in epochs.items()})
        for report in tx.roll.reports(list(names)).values():
            key = (array.array_id, names[report.member_uid])
            self.reported[key] = report.received_at_ms / 1000
            self.clocks[key] = report.clock_difference_ms / 1000
            if report.certificate_not_after:
                self.expiry[key] = report.certificate_not_after


_SHOWN: Mapping[str, CurrentValues] = {
    "members": CurrentValues("keyreeve_membership_members", "Members of an array by state.", ("array", "state")),
    "epochs": CurrentValues("keyreeve_membership_epoch", "The newest epoch of an array's trust bundle.", ("array",)),
    "acknowledged": CurrentValues(
        "keyreeve_membership_acknowledged_members",
        "Members of an array by the newest epoch that they have loaded.",
        ("array", "epoch"),
    ),
    "reported": CurrentValues("keyreeve_membership_report_timestamp_seconds", "When a member reported last.", _MEMBER),
    "clocks": CurrentValues(
        "keyreeve_membership_clock_difference_seconds",
        "A member's clock minus the control plane's, at its last report.",
        _MEMBER,
    ),
    "expiry": CurrentValues(
        "keyreeve_membership_certificate_not_after_timestamp_seconds",
        "When the peer certificate expires that a member has loaded.",
        _MEMBER,
    ),
}


def read_values(tx: Transaction) -> RollValues:
    """Read what the metrics show, of arrays that are not dissolved."""
    values = RollValues()
    for array in _arrays(tx):
        values.add(tx, array)
    return values


async def show_roll(store: Store[Transaction]) -> None:
    """Show the roll, now and every few seconds, forever."""
    while True:
        try:
            values = await store.read(read_values)
        except Unavailable as unavailable:
            log.debug("the roll could not be shown: %s", unavailable)
        else:
            for name, shown in _SHOWN.items():
                shown.replace(getattr(values, name))
        await asyncio.sleep(PASS_SECONDS)


def _arrays(tx: Transaction) -> Iterator[Array]:
    after = ""
    while found := tx.roll.arrays(after=after, limit=_ARRAYS_AT_ONCE, dissolved=False):
        yield from found
        after = found[-1].array_id
