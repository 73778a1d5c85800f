"""Answers to requests that are no calls of this server."""

from keyreeve_chassis.rpc import wire
from keyreeve_chassis.rpc.http2.port import Http2Connection
from keyreeve_chassis.rpc.wire import WireError


def answer_no_call(http2: Http2Connection, stream: int, refused: WireError) -> None:
    """Answer a request with why it is refused: as gRPC does, or as text where the client does not speak gRPC."""
    if refused.http_status is None:
        found = wire.trailers(refused.code, refused.message, (), http2.header_list_limit)
        http2.send_headers(stream, (*wire.RESPONSE, *found), end=True)
    else:
        http2.send_headers(stream, ((b":status", refused.http_status), *wire.PLAIN_TEXT))
        http2.send_data(stream, refused.message.encode() + b"\n", end=True)
