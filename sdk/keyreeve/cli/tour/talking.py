"""A client that talks to members with the certificate of one of them, all the time, and counts the calls."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from keyreeve.channel_credentials import pinned_options
from keyreeve.cli.tour.local_agents import LocalAgent
from keyreeve.peer.v1 import peer_service_pb2 as pb
from keyreeve.status import error_from_rpc

PING = "/keyreeve.peer.v1.PeerService/Ping"
_CALL_SECONDS = 5.0
_PAUSE_SECONDS = 0.005


@dataclass
class PeerCaller:
    """Calls peers with the files of a member, and moves to new files before the next call."""

    own: LocalAgent
    _set: Path | None = None
    _channels: dict[str, grpc.Channel] = field(default_factory=dict)

    def ping(self, peer: LocalAgent) -> str:
        """Call a peer; an empty text, or the reason of the failure."""
        present = self.own.material.resolve()
        if present != self._set:
            self.close()
            self._set = present
        channel = self._channels.get(peer.name) or self._channels.setdefault(peer.name, self._open(peer, present))
        call = channel.unary_unary(
            PING, request_serializer=pb.PingRequest.SerializeToString, response_deserializer=pb.PingResponse.FromString
        )
        try:
            call(pb.PingRequest(nonce=b"tour"), timeout=_CALL_SECONDS)
        except grpc.RpcError as failure:
            return error_from_rpc(failure, peer.name).reason
        return ""

    def close(self) -> None:
        """Close the connections."""
        for channel in self._channels.values():
            channel.close()
        self._channels.clear()

    def _open(self, peer: LocalAgent, present: Path) -> grpc.Channel:
        credentials = grpc.ssl_channel_credentials(
            *((present / name).read_bytes() for name in ("bundle.pem", "key.pem", "certificate.pem"))
        )
        return grpc.secure_channel(peer.address, credentials, options=pinned_options(peer.address, peer.name))


class Talk:
    """A thread that calls peers in turn from its start to its end."""

    def __init__(self, own: LocalAgent, peers: Sequence[LocalAgent]) -> None:
        self.calls = 0
        self.failures: list[str] = []
        self._caller = PeerCaller(own)
        self._peers = peers
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Talk":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """Stop after the call in progress."""
        self._stop.set()
        self._thread.join(2 * _CALL_SECONDS)
        self._caller.close()

    def _run(self) -> None:
        while not self._stop.wait(_PAUSE_SECONDS):
            for peer in self._peers:
                if reason := self._caller.ping(peer):
                    self.failures.append(f"{peer.name}: {reason}")
                self.calls += 1
