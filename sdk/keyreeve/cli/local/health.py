"""Health checks of a service over its plaintext listener (grpc.health.v1).

The request is an empty message and the response has one enum field, so both are written here as bytes: the command line
needs no package for them.
"""

import socket

from keyreeve.cli.supervision.local_services import UNIX, Addresses, dialed

_CHECK = "/grpc.health.v1.Health/Check"
_SERVING = b"\x08\x01"
"""Field 1, varint, SERVING."""


def is_listening(addresses: Addresses, seconds: float = 1.0) -> bool:
    """Whether the health listener takes connections; without one, whether the service's own does. Imports no gRPC."""
    at = addresses.health_host.removeprefix(UNIX)
    try:
        if at != addresses.health_host:
            with socket.socket(socket.AF_UNIX) as probe:
                probe.settimeout(seconds)
                probe.connect(at)
            return True
        host, port = (addresses.health_host, addresses.health_port)
        if port is None:
            host, port = addresses.host, addresses.port
        socket.create_connection((dialed(host), port), timeout=seconds).close()
    except OSError:
        return False
    return True


def is_serving(addresses: Addresses, seconds: float = 1.0) -> bool:
    """Whether the service as a whole answers within the time that it serves; without a health listener, whether it listens."""
    if addresses.health is None:
        return is_listening(addresses)
    import grpc

    # A proxy of the environment would dial its own loopback.
    with grpc.insecure_channel(addresses.health, options=[("grpc.enable_http_proxy", 0)]) as channel:
        check = channel.unary_unary(_CHECK, request_serializer=_as_is, response_deserializer=_as_is)
        try:
            return bytes(check(b"", timeout=seconds)) == _SERVING
        except grpc.RpcError:
            return False


def _as_is(message: bytes) -> bytes:
    return message
