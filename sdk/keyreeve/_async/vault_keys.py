"""Key-encryption keys of the vault, and its seal."""

from keyreeve import vault_wire
from keyreeve._async.calls import Caller
from keyreeve.credentials.v1 import key_service_pb2 as pb
from keyreeve.operation_values import Operation
from keyreeve.operation_wire import from_operation
from keyreeve.operations.v1 import operation_service_pb2 as operation_pb
from keyreeve.request_ids import new_request_id
from keyreeve.vault_values import Key, KeyState, SealState
from keyreeve.wire_fields import resource_name

_SERVICE = "/keyreeve.credentials.v1.KeyService"


class KeyClient:
    """The keys of the vault; reached as `Client.credentials.keys`.

    Arrays may be named in full (`arrays/sales`) or by their last part. Every method raises `keyreeve.errors` and takes a
    `timeout` in seconds over all its attempts.
    """

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def state(self, array: str, *, timeout: float | None = None) -> KeyState:
        """Get the keys of an array, and whether the vault is sealed."""
        request = pb.GetKeyStateRequest(parent=resource_name("arrays", array))
        return vault_wire.from_key_state(
            await self._caller.unary(f"{_SERVICE}/GetKeyState", request, pb.KeyState, timeout)
        )

    async def rotate(self, array: str, *, request_id: str | None = None, timeout: float | None = None) -> Operation:
        """Give an array a new key and begin to re-encrypt its values; `Client.credentials.operations` follows it."""
        request = pb.RotateKeyRequest(parent=resource_name("arrays", array), request_id=request_id or new_request_id())
        method = f"{_SERVICE}/RotateKey"
        return from_operation(await self._caller.unary(method, request, operation_pb.Operation, timeout))

    async def destroy(
        self, name: str, *, now: bool = False, request_id: str | None = None, timeout: float | None = None
    ) -> Key:
        """Destroy a key that no value needs.

        With `now`, backups that need it become unreadable, and two people have to ask within an hour.
        """
        request = pb.DestroyKeyRequest(
            name=name,
            shred=pb.SHRED_NOW if now else pb.SHRED_AFTER_BACKUPS,
            request_id=request_id or new_request_id(),
        )
        return vault_wire.from_key(await self._caller.unary(f"{_SERVICE}/DestroyKey", request, pb.Key, timeout))

    async def seal(self, reason: str, *, request_id: str | None = None, timeout: float | None = None) -> SealState:
        """Seal the vault: nothing opens and nothing is written."""
        request = pb.SealRequest(reason=reason, request_id=request_id or new_request_id())
        return vault_wire.from_seal(await self._caller.unary(f"{_SERVICE}/Seal", request, pb.SealState, timeout))

    async def unseal(self, reason: str, *, request_id: str | None = None, timeout: float | None = None) -> SealState:
        """Unseal the vault."""
        request = pb.UnsealRequest(reason=reason, request_id=request_id or new_request_id())
        return vault_wire.from_seal(await self._caller.unary(f"{_SERVICE}/Unseal", request, pb.SealState, timeout))
