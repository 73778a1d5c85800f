"""The people who operate the control plane."""

from collections.abc import AsyncGenerator, Sequence

from google.protobuf.field_mask_pb2 import FieldMask

from keyreeve import wire
from keyreeve._async.calls import Caller
from keyreeve.ca.v1 import operator_service_pb2 as pb
from keyreeve.request_ids import new_request_id
from keyreeve.values import Invitation, Operator, OperatorRole

_SERVICE = "/keyreeve.ca.v1.OperatorService"


class OperatorClient:
    """The people and their roles; reached as `Client.operators`.

    People may be named in full (`operators/ann`) or by their last part (`ann`). `request_id` makes a repeated mutation the
    same mutation: one is made for each call unless given, and kept across the call's own retries. Every method raises
    `keyreeve.errors` and takes a `timeout` in seconds over all its attempts.
    """

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def invite(
        self,
        name: str,
        role: OperatorRole,
        *,
        address: str = "",
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> Invitation:
        """Invite a person, or invite them again; the token lets them get their first certificate.

        `address` is the enrollment listener as the person reaches it, unless it is the configured one.
        """
        request = pb.InviteOperatorRequest(
            operator_id=name,
            role=wire.to_number(wire.OPERATOR_ROLES, role, "role"),
            address=address,
            request_id=request_id or new_request_id(),
        )
        return wire.from_invitation(
            await self._caller.unary(f"{_SERVICE}/InviteOperator", request, pb.InviteOperatorResponse, timeout)
        )

    async def get(self, name: str, *, timeout: float | None = None) -> Operator:
        """Look a person up."""
        request = pb.GetOperatorRequest(name=_full(name))
        return wire.from_operator(await self._caller.unary(f"{_SERVICE}/GetOperator", request, pb.Operator, timeout))

    async def list(self, *, page_size: int = 100, timeout: float | None = None) -> AsyncGenerator[Operator, None]:
        """Everybody in order of their names; `timeout` is for each page."""
        request = pb.ListOperatorsRequest(page_size=page_size)
        while True:
            method = f"{_SERVICE}/ListOperators"
            page = await self._caller.unary(method, request, pb.ListOperatorsResponse, timeout)
            for message in page.operators:
                yield wire.from_operator(message)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def update(
        self,
        name: str,
        role: OperatorRole | None = None,
        *,
        keys: Sequence[str] | None = None,
        address: str = "",
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> Invitation:
        """Give a person another role, other keys, or both; what is None stays.

        Another role: the old certificates are revoked, and the token is for one of the new role; without one there is no
        token. `keys` are all that the person is to have, each one line as OpenSSH writes public keys; none take all away.
        """
        changed = [path for path, value in (("role", role), ("keys", keys)) if value is not None]
        request = pb.UpdateOperatorRequest(
            name=_full(name),
            address=address,
            request_id=request_id or new_request_id(),
            keys=keys or (),
            update_mask=FieldMask(paths=changed),
        )
        if role is not None:
            request.role = wire.to_number(wire.OPERATOR_ROLES, role, "role")
        return wire.from_invitation(
            await self._caller.unary(f"{_SERVICE}/UpdateOperator", request, pb.UpdateOperatorResponse, timeout)
        )

    async def remove(self, name: str, *, request_id: str | None = None, timeout: float | None = None) -> Operator:
        """Put a person out for good, everywhere within a second."""
        request = pb.RemoveOperatorRequest(name=_full(name), request_id=request_id or new_request_id())
        return wire.from_operator(await self._caller.unary(f"{_SERVICE}/RemoveOperator", request, pb.Operator, timeout))


def _full(name: str) -> str:
    return wire.resource_name("operators", name)
