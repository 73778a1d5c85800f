"""The trust bundles of arrays."""

from collections.abc import AsyncGenerator

from keyreeve import membership_wire as wire
from keyreeve._async.calls import Caller
from keyreeve.membership.v1 import bundle_service_pb2 as pb
from keyreeve.membership_values import Epoch

_SERVICE = "/keyreeve.membership.v1.BundleService"


class BundleClient:
    """The bundles of arrays, as epochs; reached as `Client.membership.bundles`.

    Every method raises `keyreeve.errors` and takes a `timeout` in seconds over all its attempts.
    """

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def get(self, array: str, *, timeout: float | None = None) -> Epoch:
        """Return the newest epoch of an array."""
        request = pb.GetBundleRequest(array=wire.array_name(array))
        return wire.from_epoch(await self._caller.unary(f"{_SERVICE}/GetBundle", request, pb.Epoch, timeout))

    async def epochs(
        self, array: str, *, from_epoch: int = 0, page_size: int = 100, timeout: float | None = None
    ) -> AsyncGenerator[Epoch, None]:
        """Iterate over the epochs of an array in order of their numbers; `timeout` is for each page."""
        request = pb.ListEpochsRequest(array=wire.array_name(array), from_epoch=from_epoch, page_size=page_size)
        while True:
            method = f"{_SERVICE}/ListEpochs"
            page = await self._caller.unary(method, request, pb.ListEpochsResponse, timeout)
            for message in page.epochs:
                yield wire.from_epoch(message)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def watch(self, array: str) -> AsyncGenerator[Epoch, None]:
        """Iterate over the newest epoch of an array: as it is now, and each later one; outages are waited out."""
        request, last = pb.WatchBundleRequest(array=wire.array_name(array)), 0
        async for message in self._caller.follow(f"{_SERVICE}/WatchBundle", request, pb.Epoch):
            if message.epoch != last:  # a stream that is opened again begins with the present epoch
                last = message.epoch
                yield wire.from_epoch(message)
