"""Binding the sockets of a listener: every address of a host, or a Unix socket."""

import os
import secrets
import socket
from pathlib import Path

_UNIX = "unix:"


def bind_sockets(host: str, port: int) -> tuple[list[socket.socket], int]:
    """Bind every address of `host`, or the Unix socket `unix:PATH`; return the sockets and the port (0: none).

    Raises `OSError`.
    """
    if host.startswith(_UNIX):
        return [_bind_unix(Path(host.removeprefix(_UNIX)))], 0
    bound: list[socket.socket] = []
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, address in dict.fromkeys(found):
            one = socket.socket(family, kind, protocol)
            bound.append(one)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # Worker processes share one port; the kernel chooses one by a hash, and `Spreading` corrects it.
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            one.setblocking(False)
            one.bind((address[0], port, *address[2:]))
            port = one.getsockname()[1]
    except OSError:
        close_sockets(bound)
        raise
    return bound, port


def _bind_unix(path: Path) -> socket.socket:
    """Bind a Unix socket in place of an earlier one: the latest of several processes accepts, and hands over."""
    one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    beside = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    try:
        one.setblocking(False)
        one.bind(str(beside))
        beside.chmod(0o600)
        # It listens before it has its name, so that no client meets a socket without a listener.
        one.listen()
        beside.replace(path)
    except OSError:
        one.close()
        beside.unlink(missing_ok=True)
        raise
    return one


def close_sockets(bound: list[socket.socket]) -> None:
    """Close sockets, those of Unix keep their file, which the next process replaces."""
    for one in bound:
        one.close()
    bound.clear()


def peer_of(family: int, address: tuple[str, int] | str, number: int) -> str:
    """Return a peer's address as gRPC spells it; Unix sockets have none, and get the number of the connection."""
    if family == socket.AF_UNIX:
        return f"{_UNIX}{os.getpid()}.{number}"
    if family == socket.AF_INET6:
        return f"ipv6:[{address[0]}]:{address[1]}"
    return f"ipv4:{address[0]}:{address[1]}"
