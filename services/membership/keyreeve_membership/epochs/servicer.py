"""BundleService: access rules, and messages to values and back."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from keyreeve.membership.v1 import bundle_service_pb2 as pb
from keyreeve_chassis.changes.shared_reads import SharedReads
from keyreeve_chassis.database.ports import Store
from keyreeve_chassis.guard.access import AccessRule, AccessRules, Freshness, through_gateways
from keyreeve_chassis.guard.call import Call, caller_of, id_of, invalid
from keyreeve_chassis.guard.paging import Pages
from keyreeve_membership.epochs.ports import Epoch
from keyreeve_membership.messages import epoch_message
from keyreeve_membership.roll.access import require_array_of
from keyreeve_membership.roll.array_servicer import READERS
from keyreeve_membership.roll.following import StreamOfArray
from keyreeve_membership.roll.service import get_array
from keyreeve_membership.store.ports import Transaction

SERVICE = "/keyreeve.membership.v1.BundleService/"
# Trust metadata: a member whose trust is stale has to be able to load what is current.
_READ = AccessRule(READERS, freshness=Freshness.EXEMPT, records=("array",))

ACCESS: AccessRules = through_gateways(
    {
        SERVICE + "GetBundle": _READ,
        SERVICE + "ListEpochs": _READ,
        SERVICE + "WatchBundle": AccessRule(READERS, long_stream=True, freshness=Freshness.EXEMPT, records=("array",)),
    },
    "GetBundle",
)
_WATCH_SECONDS = 60.0


@dataclass(frozen=True)
class BundleServicer:
    """Serves BundleService."""

    store: Store[Transaction]
    pages: Pages
    streams: SharedReads[Transaction]
    """What the streams follow epochs with."""
    roll: SharedReads[Transaction]
    """What the streams follow the roll and epochs with."""

    async def GetBundle(self, request: pb.GetBundleRequest, call: Call) -> pb.Epoch:
        caller, array_id = caller_of(call), id_of(request.array, "arrays", "array")

        def read(tx: Transaction) -> Epoch:
            require_array_of(tx, caller, array_id)
            return _newest(tx, array_id)

        return epoch_message(await self.store.read(read))

    async def ListEpochs(self, request: pb.ListEpochsRequest, call: Call) -> pb.ListEpochsResponse:
        page, caller, array_id = (
            self.pages.open(call, request),
            caller_of(call),
            id_of(request.array, "arrays", "array"),
        )
        if request.from_epoch < 0:
            raise invalid("from_epoch", "must not be negative")
        after = int(page.after) if page.after else request.from_epoch - 1

        def read(tx: Transaction) -> list[Epoch]:
            require_array_of(tx, caller, array_id)
            get_array(tx, array_id)
            return list(tx.epochs.page(array_id, after=after, limit=page.size + 1))

        rows = await self.store.read(read)
        last = str(rows[page.size - 1].epoch) if len(rows) > page.size else None
        return pb.ListEpochsResponse(
            epochs=[epoch_message(row) for row in rows[: page.size]], next_page_token=page.next_token(last)
        )

    async def WatchBundle(self, request: pb.WatchBundleRequest, call: Call) -> AsyncIterator[pb.Epoch]:
        array_id, sent, wait = id_of(request.array, "arrays", "array"), -1, self.roll.follower()
        stream = StreamOfArray(caller_of(call), array_id, self.store, self.roll)
        while True:
            await stream.require_array()
            newest = await self.streams.read(array_id, lambda tx: _newest(tx, array_id))
            if newest.epoch != sent:
                sent = newest.epoch
                yield epoch_message(newest)
            await wait(_WATCH_SECONDS)


def _newest(tx: Transaction, array_id: str) -> Epoch:
    get_array(tx, array_id)
    found = tx.epochs.newest(array_id)
    assert found is not None, "an array is made with its first epoch"
    return found
