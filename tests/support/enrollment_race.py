"""Enrollees with one token at the same time: each up to the challenge, then all together."""

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import Sequence

import grpc

from keyreeve.ca.v1 import enrollment_service_pb2 as pb
from keyreeve.ca.v1.enrollment_service_pb2_grpc import EnrollmentServiceStub
from keyreeve.channel_credentials import pinned_options
from keyreeve.enrollee_files import fetch_root
from keyreeve.enrollment_token import EnrollmentKeys, EnrollmentToken, Transcript
from keyreeve.errors import KeyreeveError
from keyreeve.keys import make_csr, make_key
from keyreeve.status import error_from_rpc
from keyreeve.values import to_pem

ENROLLEES = 200
PER_CHANNEL = 8
LATE = "DEADLINE_PASSED"


def csrs() -> list[bytes]:
    """Requests with new keys, because a certified key belongs to one identity permanently."""
    return [make_csr(make_key()) for _ in range(ENROLLEES)]


class Barrier:
    """A barrier: continues when all have arrived or given up."""

    def __init__(self, parties: int) -> None:
        self._missing = parties
        self._complete = asyncio.Event()

    def arrive(self) -> None:
        self._missing -= 1
        if not self._missing:
            self._complete.set()

    async def wait(self) -> None:
        self.arrive()
        await self._complete.wait()


async def attempt(channel: grpc.aio.Channel, token: EnrollmentToken, csr: bytes, barrier: Barrier) -> str | bytes:
    """One enrollee: up to the challenge, then all together."""
    keys = EnrollmentKeys.of(token.secret, token.token_id)
    call = EnrollmentServiceStub(channel).Enroll(timeout=10)
    came = False
    try:
        hello = pb.EnrollHello(
            token_id=token.token_id,
            client_nonce=secrets.token_bytes(32),
            client_time=int(time.time()),
            release="race",
        )
        await call.write(pb.EnrollRequest(hello=hello))
        heard = (await call.read()).challenge
        transcript = Transcript(
            token.identity.trust_domain,
            token.root_sha256,
            token.server_name,
            token.token_id,
            hello.client_nonce,
            hello.client_time,
            hello.release,
            heard.server_nonce,
            heard.server_time,
            heard.identity,
            heard.trust_root,
        )
        came = True
        await barrier.wait()
        mac = transcript.client_mac(keys, heard.server_mac, csr)
        await call.write(pb.EnrollRequest(proof=pb.EnrollProof(csr=csr, client_mac=mac)))
        answer = await call.read()
        if answer is grpc.aio.EOF:
            return "ended"
        return bytes(answer.result.chain_der[0])
    except grpc.aio.AioRpcError as failure:
        if not came:
            barrier.arrive()
        told: KeyreeveError = error_from_rpc(failure, "the listener")
        return told.reason


async def race(addresses: Sequence[str], token: EnrollmentToken, requests: list[bytes]) -> Counter[str | bytes]:
    """Run one enrollee per request over all addresses; return each error or certificate."""
    root = to_pem([await asyncio.to_thread(fetch_root, token, 10)]).encode()
    channels = []
    for number in range(-(-len(requests) // PER_CHANNEL)):
        address = addresses[number % len(addresses)]
        options = pinned_options(address, token.server_name)
        channels.append(grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(root), options=options))
    barrier = Barrier(len(requests))
    try:
        return Counter(
            await asyncio.gather(
                *(attempt(channels[number % len(channels)], token, csr, barrier) for number, csr in enumerate(requests))
            )
        )
    finally:
        await asyncio.gather(*(channel.close() for channel in channels))


def settled(outcomes: Counter[str | bytes]) -> tuple[Counter[str], list[bytes]]:
    """Count the errors, except for time limits on a busy machine; and the certificates."""
    told = Counter({one: count for one, count in outcomes.items() if isinstance(one, str)})
    return told, [one for one in outcomes if isinstance(one, bytes)]
