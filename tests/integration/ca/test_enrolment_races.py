"""Two hundred newcomers with one token, on both workers at once: one wins, and there is one certificate."""

import asyncio
import os
import secrets
import time
from collections import Counter

import grpc

from keyreeve.ca.v1 import enrolment_service_pb2 as pb
from keyreeve.ca.v1.enrolment_service_pb2_grpc import EnrolmentServiceStub
from keyreeve.credentials import pinned_options
from keyreeve.enrolment_token import EnrolmentKeys, EnrolmentToken, Transcript
from keyreeve.errors import KeyreeveError
from keyreeve.keys import make_csr, make_key
from keyreeve.newcomer_files import fetch_root
from keyreeve.status import error_from_rpc
from keyreeve.values import to_pem
from support.enrolling import address_of, enrolling_ca, new_token
from support.running_ca import RunningCa

__all__ = ["enrolling_ca"]

NEWCOMERS = 200
ROUNDS = int(os.environ.get("KEYREEVE_TEST_ROUNDS", "3"))
"""A hundred take some minutes."""
PER_CHANNEL = 8
LATE = "DEADLINE_PASSED"


def csrs() -> list[bytes]:
    """Requests of keys that nobody has seen: one that has been certified belongs to one identity for good."""
    return [make_csr(make_key()) for _ in range(NEWCOMERS)]


class Barrier:
    """Lets everybody go on when all have come."""

    def __init__(self, parties: int) -> None:
        self._missing = parties
        self._complete = asyncio.Event()

    async def wait(self) -> None:
        self._missing -= 1
        if not self._missing:
            self._complete.set()
        await self._complete.wait()


async def attempt(channel: grpc.aio.Channel, token: EnrolmentToken, csr: bytes, barrier: Barrier) -> str | bytes:
    """One newcomer: up to the challenge, then all together."""
    keys = EnrolmentKeys.of(token.secret, token.token_id)
    call = EnrolmentServiceStub(channel).Enrol(timeout=10)
    try:
        hello = pb.EnrolHello(
            token_id=token.token_id,
            client_nonce=secrets.token_bytes(32),
            client_time=int(time.time()),
            release="race",
        )
        await call.write(pb.EnrolRequest(hello=hello))
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
        await barrier.wait()
        mac = transcript.client_mac(keys, heard.server_mac, csr)
        await call.write(pb.EnrolRequest(proof=pb.EnrolProof(csr=csr, client_mac=mac)))
        answer = await call.read()
        if answer is grpc.aio.EOF:
            return "ended"
        return bytes(answer.result.chain_der[0])
    except grpc.aio.AioRpcError as failure:
        told: KeyreeveError = error_from_rpc(failure, "the listener")
        return told.reason


async def race(ca: RunningCa, token: EnrolmentToken, requests: list[bytes]) -> Counter[str | bytes]:
    root = to_pem([await asyncio.to_thread(fetch_root, token, 10)]).encode()
    channels = [
        grpc.aio.secure_channel(
            address_of(ca, number % 2),
            grpc.ssl_channel_credentials(root),
            options=pinned_options(address_of(ca, number % 2), token.server_name),
        )
        for number in range(-(-len(requests) // PER_CHANNEL))
    ]
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
    """How many were told what, but for those for whom a busy machine took longer than the protocol allows; and the certificates."""
    told = Counter({one: count for one, count in outcomes.items() if isinstance(one, str)})
    return told, [one for one in outcomes if isinstance(one, bytes)]


async def test_of_two_hundred_keys_with_one_token_one_is_certified(enrolling_ca: RunningCa) -> None:
    for _ in range(ROUNDS):
        token = await asyncio.to_thread(new_token, enrolling_ca)
        outcomes = await race(enrolling_ca, token, csrs())
        told, certificates = settled(outcomes)
        late = told.pop(LATE, 0)
        assert set(told) <= {"TOKEN_USED"}
        assert told["TOKEN_USED"] + late + len(certificates) == NEWCOMERS
        assert len(certificates) == 1 or late
        listed = await asyncio.to_thread(
            lambda token=token: list(enrolling_ca.client().certificates.list(identity=str(token.identity)))
        )
        assert [one.certificate_der for one in listed] == certificates or late
        assert len(listed) <= 1
        stored = enrolling_ca.read(lambda tx, token=token: tx.tokens.get(token.token_id))
        for one in listed:
            assert stored.spki_sha256 == one.spki_sha256
            assert stored.serial is None or stored.serial.hex() == one.serial


async def test_one_key_that_comes_many_times_at_once_gets_one_certificate(enrolling_ca: RunningCa) -> None:
    token = await asyncio.to_thread(new_token, enrolling_ca)
    [csr, *_] = csrs()
    told, certificates = settled(await race(enrolling_ca, token, [csr] * 40))
    assert set(told) <= {LATE}
    assert len(certificates) == 1
