"""Health checks of a service over its plaintext listener (grpc.health.v1).

The request is an empty message and the response has one enum field, so both are written here as bytes: the command line
needs no package for them.
"""

from keyreeve.cli.supervision.local_services import Addresses

_CHECK = "/grpc.health.v1.Health/Check"
_SERVING = b"\x08\x01"
"""Field 1, varint, SERVING."""


def is_serving(addresses: Addresses, seconds: float = 1.0) -> bool:
    """Whether the service as a whole answers within the time that it serves."""
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
