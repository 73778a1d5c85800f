"""gRPC targets for the addresses of a service.

gRPC resolves one DNS name by itself, and balances over its addresses. For several addresses it takes IP addresses of one
family only, so names are resolved here, and IPv4 addresses beside IPv6 ones are written as IPv4-mapped (RFC 4291, 2.5.5.2).
"""

import ipaddress
import socket
from collections.abc import Callable, Iterable, Sequence

from keyreeve.errors import ServiceUnreachable

Address = tuple[str, int]
Resolve = Callable[[str, int], Iterable[Address]]


def resolve(host: str, port: int) -> Iterable[Address]:
    """Resolve a host name by the system's resolver.

    An IP address resolves to itself. Raises `OSError`.
    """
    for *_, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        yield str(address[0]), port


def needs_resolving(addresses: Sequence[str]) -> bool:
    """Whether the target of the addresses contains names that gRPC does not follow."""
    return len(addresses) > 1 and not all(map(_is_ip_address, addresses))


def target_of(addresses: Sequence[str], resolve: Resolve = resolve) -> str:
    """Make the gRPC target that stands for all addresses.

    A name that does not resolve is left out. Raises `ServiceUnreachable` when none resolves.
    """
    if len(addresses) == 1:
        return addresses[0]
    found: set[tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, int]] = set()
    failures = []
    for address in addresses:
        host, port = split(address)
        try:
            found |= {(ipaddress.ip_address(ip), number) for ip, number in resolve(host, port)}
        except (OSError, ValueError) as failure:
            failures.append(f"{host}: {failure}")
    if not found:
        raise ServiceUnreachable(f"no host name could be resolved ({'; '.join(failures)})")
    # Sorted, since resolvers shuffle their answers: the same addresses must give the same target.
    ordered = sorted(found, key=lambda each: (each[0].version, each))
    if all(ip.version == 4 for ip, _ in ordered):
        return "ipv4:" + ",".join(f"{ip}:{port}" for ip, port in ordered)
    return "ipv6:" + ",".join(f"[{'::ffff:' if ip.version == 4 else ''}{ip}]:{port}" for ip, port in ordered)


def split(address: str) -> Address:
    """Split `host:port`; the brackets of an IPv6 address are removed."""
    host, _, port = address.rpartition(":")
    return host.removeprefix("[").removesuffix("]"), int(port)


def is_loopback(address: str) -> bool:
    """Whether an address is on this machine by its spelling alone.

    Nothing is resolved.
    """
    host, _ = split(address)
    return host == "localhost" or (_is_ip_address(address) and ipaddress.ip_address(host).is_loopback)


def _is_ip_address(address: str) -> bool:
    host, _ = split(address)
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
