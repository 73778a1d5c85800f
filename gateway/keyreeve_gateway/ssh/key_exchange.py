"""Key exchanges whose hash is signed elsewhere.

asyncssh calls a host key's `sign` on the event loop. Its packet handlers may be coroutines, though: meanwhile it buffers what
the client sends. So the handler of the client's first message is replaced by one that waits for the signature. That is no
public interface: the release of asyncssh is locked, and tests/unit/gateway/test_asyncssh_internals.py fails when it moves.
"""

from collections.abc import Callable
from typing import Any

import asyncssh
from asyncssh import kex, kex_dh
from asyncssh.packet import SSHPacket

from keyreeve.errors import KeyreeveError

ALGORITHMS = ("mlkem768x25519-sha256", "curve25519-sha256", "curve25519-sha256@libssh.org", "ecdh-sha2-nistp256")
"""Key exchanges that are offered, as far as the installed cryptography has them."""


class RemoteHostKey(asyncssh.SSHKeyPair):
    """The public half of a host key, as asyncssh offers it."""

    def __init__(self, algorithm: str, public_key: bytes) -> None:
        """Take the public half."""
        name = algorithm.encode()
        super().__init__(name, name, (name,), (name,), public_key, None)

    def sign(self, data: bytes) -> bytes:  # noqa: ARG002 - as asyncssh calls it
        """Refuse: the hash is signed by `_process_init`."""
        raise asyncssh.KeyExchangeFailed("the host key signs in the vault")


async def _process_init(self: Any, _type: int, _id: int, packet: SSHPacket) -> None:  # noqa: ANN401 - asyncssh's own
    """Answer the client's first message, as asyncssh does but for who signs."""
    self._parse_client_key(packet)
    packet.check_end()
    key_data = self._conn.get_server_host_key().public_data
    shared = self._compute_server_shared()
    exchange_hash = self._compute_hash(key_data, shared)
    try:
        signature = await self._conn.sign_exchange_hash(exchange_hash)
    except KeyreeveError as failure:
        raise asyncssh.KeyExchangeFailed("the host key cannot be used now") from failure
    self._send_reply(key_data, signature)
    self._conn.send_newkeys(shared, exchange_hash)


def _remotely_signed(handler: type[Any]) -> type[Any]:
    """A handler of key exchanges with the first message replaced."""
    handlers: dict[int, Callable[..., Any]] = {**handler._packet_handlers, kex_dh.MSG_KEX_ECDH_INIT: _process_init}  # noqa: SLF001
    return type(f"RemotelySigned{handler.__name__}", (handler,), {"_packet_handlers": handlers})


def offer_key_exchanges() -> tuple[str, ...]:
    """Have this process's key exchanges signed by the connection; return those that can be offered.

    The process that calls this must be no SSH client.
    """
    known = kex._kex_handlers  # noqa: SLF001 - as above
    offered = [name for name in ALGORITHMS if name.encode() in known]
    for name in offered:
        handler, hash_algorithm, arguments = known[name.encode()]
        if not handler.__name__.startswith("RemotelySigned"):
            known[name.encode()] = (_remotely_signed(handler), hash_algorithm, arguments)
    return tuple(offered)
