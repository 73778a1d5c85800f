"""The people who operate the control plane."""

from collections.abc import AsyncGenerator, Sequence

from google.protobuf.field_mask_pb2 import FieldMask

from keyreeve import session_wire, wire
from keyreeve._async.calls import Caller
from keyreeve.ca.v1 import operator_service_pb2 as pb
from keyreeve.request_ids import new_request_id
from keyreeve.values import Invitation, Operator, OperatorApproval, OperatorRole, SshKey

_SERVICE = "/keyreeve.ca.v1.OperatorService"


class OperatorClient:
    """The operators and their roles; reached as `Client.operators`.

    Operators may be named in full (`operators/ann`) or by their last part (`ann`). `request_id` makes a mutation
    idempotent: one is made for each call unless given, and kept over its retries. Every method raises `keyreeve.errors`
    and takes a `timeout` in seconds over all its attempts.
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
        """Invite an operator, or renew an invitation.

        Its token is for a certificate of the role.

        `address` is the enrollment listener as the operator reaches it, unless it is the configured one.
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

    async def approve(
        self,
        name: str,
        role: OperatorRole | None,
        *,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> OperatorApproval:
        """Approve that another admin gives an operator this role, or removes them (None)."""
        number = pb.OPERATOR_ROLE_UNSPECIFIED
        if role is not None:
            number = wire.to_number(wire.OPERATOR_ROLES, role, "role")
        request = pb.ApproveOperatorChangeRequest(
            operator_id=name.removeprefix("operators/"), role=number, request_id=request_id or new_request_id()
        )
        approval = await self._caller.unary(f"{_SERVICE}/ApproveOperatorChange", request, pb.OperatorApproval, timeout)
        return wire.from_operator_approval(approval)

    async def get(self, name: str, *, timeout: float | None = None) -> Operator:
        """Look up an operator."""
        request = pb.GetOperatorRequest(name=_full(name))
        return wire.from_operator(await self._caller.unary(f"{_SERVICE}/GetOperator", request, pb.Operator, timeout))

    async def list(self, *, page_size: int = 100, timeout: float | None = None) -> AsyncGenerator[Operator, None]:
        """Iterate over all operators by name; `timeout` is for each page."""
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
        """Change the role or the keys of an operator, or both.

        None leaves them as they are.

        A new role revokes the operator's certificates, and the token is for a certificate of the new role; otherwise there
        is no token. `keys` replace all keys in the record, each one line in OpenSSH's public key format.
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

    async def register_ssh_key(
        self,
        name: str,
        public_key: str,
        *,
        certificate_authority: bool = False,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> SshKey:
        """Register a key, or an SSH CA, with which an operator logs in by SSH; one line in OpenSSH's format."""
        request = pb.RegisterSshKeyRequest(
            operator=_full(name),
            public_key=public_key,
            certificate_authority=certificate_authority,
            request_id=request_id or new_request_id(),
        )
        return session_wire.from_ssh_key(
            await self._caller.unary(f"{_SERVICE}/RegisterSshKey", request, pb.SshKey, timeout)
        )

    async def ssh_keys(self, name: str, *, timeout: float | None = None) -> Sequence[SshKey]:
        """The keys and SSH CAs of an operator."""
        request = pb.ListSshKeysRequest(operator=_full(name))
        found = await self._caller.unary(f"{_SERVICE}/ListSshKeys", request, pb.ListSshKeysResponse, timeout)
        return [session_wire.from_ssh_key(one) for one in found.keys]

    async def remove_ssh_key(
        self, name: str, fingerprint: str, *, request_id: str | None = None, timeout: float | None = None
    ) -> SshKey:
        """Remove a key or an SSH CA; sessions that were opened with it are closed."""
        request = pb.RemoveSshKeyRequest(
            operator=_full(name), fingerprint=fingerprint, request_id=request_id or new_request_id()
        )
        return session_wire.from_ssh_key(
            await self._caller.unary(f"{_SERVICE}/RemoveSshKey", request, pb.SshKey, timeout)
        )

    async def remove(self, name: str, *, request_id: str | None = None, timeout: float | None = None) -> Operator:
        """Remove an operator permanently.

        Every service refuses their certificates within seconds.
        """
        request = pb.RemoveOperatorRequest(name=_full(name), request_id=request_id or new_request_id())
        return wire.from_operator(await self._caller.unary(f"{_SERVICE}/RemoveOperator", request, pb.Operator, timeout))


def _full(name: str) -> str:
    return wire.resource_name("operators", name)
