"""The switch that stops issuance everywhere."""

from keyreeve import wire
from keyreeve._async.calls import Caller
from keyreeve.ca.v1 import issuance_service_pb2 as pb
from keyreeve.request_ids import new_request_id
from keyreeve.values import IssuanceState

_SERVICE = "/keyreeve.ca.v1.IssuanceService"


class IssuanceClient:
    """The halt switch; reached as `Client.issuance`.

    `request_id` makes a mutation idempotent: one is made for each call unless given, and kept over its retries. Every
    method raises `keyreeve.errors` and takes a `timeout` in seconds over all its attempts.
    """

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def halt(self, reason: str, *, request_id: str | None = None, timeout: float | None = None) -> IssuanceState:
        """Halt issuance.

        Once it returns, no certificate that is requested over the network enters the ledger.
        """
        request = pb.HaltIssuanceRequest(reason=reason, request_id=request_id or new_request_id())
        return wire.from_issuance_state(
            await self._caller.unary(f"{_SERVICE}/HaltIssuance", request, pb.IssuanceState, timeout)
        )

    async def resume(
        self, reason: str, *, request_id: str | None = None, timeout: float | None = None
    ) -> IssuanceState:
        """Resume issuance.

        Where that requires two operators, the first call approves and issuance stays halted.
        """
        request = pb.ResumeIssuanceRequest(reason=reason, request_id=request_id or new_request_id())
        return wire.from_issuance_state(
            await self._caller.unary(f"{_SERVICE}/ResumeIssuance", request, pb.IssuanceState, timeout)
        )

    async def state(self, *, timeout: float | None = None) -> IssuanceState:
        """Return whether issuance is halted, since when, by whom and why."""
        request = pb.GetIssuanceStateRequest()
        return wire.from_issuance_state(
            await self._caller.unary(f"{_SERVICE}/GetIssuanceState", request, pb.IssuanceState, timeout)
        )
