"""Enrollment: from a token to a certificate and a context (docs/protocols.md)."""

import hmac
import os
import random
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import grpc

from keyreeve._async import runtime
from keyreeve._async.client import Client
from keyreeve.ca.v1 import enrollment_service_pb2 as pb
from keyreeve.channel_credentials import pinned_options
from keyreeve.context import Context
from keyreeve.enrollee_files import EnrolleeFiles, check_chain, fetch_root
from keyreeve.enrollment_token import (
    CLOCK_SKEW_SECONDS,
    NONCE_BYTES,
    SERVER,
    EnrollmentKeys,
    EnrollmentToken,
    Transcript,
)
from keyreeve.errors import ClockSkewed, EnrollmentServerUnproven, FileUnusable, KeyreeveError
from keyreeve.identity import service_dns_name
from keyreeve.keys import PrivateKey, make_csr
from keyreeve.retry import Backoff, RetryPolicy
from keyreeve.status import error_from_rpc
from keyreeve.values import KeyType, Line, to_pem

METHOD = "/keyreeve.ca.v1.EnrollmentService/Enroll"
EXCHANGE_METHOD = "/keyreeve.ca.v1.EnrollmentService/ExchangeServiceAccountToken"
ATTEMPT_SECONDS = 10.0
"""The service's time limit for one enrollment."""


async def enroll(
    token: EnrollmentToken | str,
    directory: str | os.PathLike[str],
    *,
    key_type: KeyType = KeyType.P256,
    timeout: float = 60.0,
    now: Callable[[], float] = time.time,
) -> Context:
    """Enroll with a token, store the identity in `directory`, and return its context.

    The key is on disk before it is used, so that after a lost response the same call with the same directory gets the same
    certificate, within 15 minutes. `now` is this machine's clock, in seconds since 1970; `timeout` is over all attempts.
    Raises `keyreeve.errors`; a directory that contains an identity already is refused with `FileUnusable`.
    """
    if isinstance(token, str):
        token = EnrollmentToken.parse(token)
    files = EnrolleeFiles(Path(directory))
    if files.is_complete():
        raise FileUnusable(f"{directory} contains an identity already: enroll into another directory")
    if not files.is_enrolled():
        await _Enrollee(token, files, files.key_on_disk(key_type), now).enroll(timeout)
    context = Context.load(files.context)
    async with Client(context, timeout=timeout) as client:
        # The first call with the certificate, upon which the service closes the token.
        files.save_bundles(await client.authorities.bundle(Line.CONTROL), await client.authorities.bundle(Line.ESTATE))
    return context


async def exchange_service_account_token(
    account_token: str, *, address: str, roots: bytes, trust_domain: str, timeout: float = ATTEMPT_SECONDS
) -> EnrollmentToken:
    """Exchange the ServiceAccount token of a Kubernetes pod for an enrollment token.

    `address` is that of the enrollment listener; `roots` are the PEM roots of the control hierarchy, and nobody else gets the
    ServiceAccount token. Each one is worth one enrollment token. Raises `keyreeve.errors`.
    """
    channel = runtime.open_channel(
        address,
        grpc.ssl_channel_credentials(roots),
        pinned_options(address, service_dns_name(SERVER, trust_domain)),
    )
    exchange = channel.unary_unary(
        EXCHANGE_METHOD,
        request_serializer=pb.ExchangeServiceAccountTokenRequest.SerializeToString,
        response_deserializer=pb.ExchangeServiceAccountTokenResponse.FromString,
    )
    try:
        request = pb.ExchangeServiceAccountTokenRequest(token=account_token, address=address)
        response: pb.ExchangeServiceAccountTokenResponse = await exchange(request, timeout=timeout)
    except grpc.RpcError as failure:
        raise error_from_rpc(failure, f"the enrollment listener at {address}") from None
    finally:
        await channel.close()
    return EnrollmentToken.parse(response.text)


@dataclass(frozen=True)
class _Enrollee:
    """One enrollment: the token, the files, the key and the clock."""

    token: EnrollmentToken
    files: EnrolleeFiles
    key: PrivateKey
    now: Callable[[], float]

    async def enroll(self, timeout: float) -> None:
        """Try until it succeeds, fails for good, or the time is over."""
        deadline = time.monotonic() + timeout
        backoff = Backoff(RetryPolicy(), random.random)
        while True:
            try:
                await self._attempt(min(ATTEMPT_SECONDS, deadline - time.monotonic()))
            except KeyreeveError as failure:
                delay = backoff.delay(failure, deadline - time.monotonic())
                if delay is None:
                    raise
                await runtime.sleep(delay)
            else:
                return

    async def _attempt(self, seconds: float) -> None:
        token = self.token
        root_der = await runtime.run_blocking(lambda: fetch_root(token, seconds))
        channel = runtime.open_channel(
            token.address,
            grpc.ssl_channel_credentials(to_pem([root_der]).encode()),
            pinned_options(token.address, token.server_name),
        )
        try:
            exchange = runtime.Exchange(channel, METHOD, pb.EnrollResponse.FromString, seconds)
            try:
                await self._exchange_proofs(exchange, root_der)
            finally:
                exchange.cancel()
        except grpc.RpcError as failure:
            raise error_from_rpc(failure, f"the enrollment listener at {token.address}") from None
        finally:
            await channel.close()

    async def _exchange_proofs(self, exchange: "runtime.Exchange[pb.EnrollResponse]", root_der: bytes) -> None:
        token = self.token
        keys = EnrollmentKeys.of(token.secret, token.token_id)
        hello = pb.EnrollHello(
            token_id=token.token_id,
            client_nonce=secrets.token_bytes(NONCE_BYTES),
            client_time=int(self.now()),
            release=_release(),
        )
        await exchange.send(pb.EnrollRequest(hello=hello))
        challenge = (await exchange.receive()).challenge
        transcript = _transcript(token, hello, challenge)
        self._check(challenge, transcript, keys)
        csr = make_csr(self.key)
        client_mac = transcript.client_mac(keys, challenge.server_mac, csr)
        await exchange.send(pb.EnrollRequest(proof=pb.EnrollProof(csr=csr, client_mac=client_mac)))
        result = (await exchange.receive()).result
        expected = transcript.result_mac(keys, client_mac, result.chain_der)
        if not hmac.compare_digest(result.result_mac, expected) or result.trust_root != challenge.trust_root:
            raise EnrollmentServerUnproven(
                "the certificate chain was not sent by a service that knows the token's secret"
            )
        expected = transcript.roots_mac(keys, client_mac, result.roots_der)
        if not hmac.compare_digest(result.roots_mac, expected) or root_der not in result.roots_der:
            raise EnrollmentServerUnproven("the roots were not sent by a service that knows the token's secret")
        check_chain(token, result.roots_der, result.chain_der, self.key)
        endpoints = {service: list(each.addresses) for service, each in result.endpoints.items()}
        self.files.save(token, result.roots_der, result.chain_der, result.trust_root, endpoints)

    def _check(self, challenge: pb.EnrollChallenge, transcript: Transcript, keys: EnrollmentKeys) -> None:
        if not hmac.compare_digest(challenge.server_mac, transcript.server_mac(keys)):
            raise EnrollmentServerUnproven(
                "the server does not know the token's secret, or a message was changed on its way"
            )
        if challenge.identity != str(self.token.identity) or len(challenge.server_nonce) != NONCE_BYTES:
            raise EnrollmentServerUnproven("the server names another identity than the token")
        now = int(self.now())
        skew = now - challenge.server_time
        if abs(skew) > CLOCK_SKEW_SECONDS:
            raise ClockSkewed(
                f"this machine's clock is {abs(skew)} s {'ahead of' if skew > 0 else 'behind'} the service's",
                metadata={"client_time": str(now), "server_time": str(challenge.server_time)},
            )


def _transcript(token: EnrollmentToken, hello: pb.EnrollHello, challenge: pb.EnrollChallenge) -> Transcript:
    if challenge.server_time < 0:
        raise EnrollmentServerUnproven("the server's clock shows a time before 1970")
    return Transcript(
        trust_domain=token.identity.trust_domain,
        root_sha256=token.root_sha256,
        server_name=token.server_name,
        token_id=token.token_id,
        client_nonce=hello.client_nonce,
        client_time=hello.client_time,
        release=hello.release,
        server_nonce=challenge.server_nonce,
        server_time=challenge.server_time,
        name=challenge.identity,
        trust_root=challenge.trust_root,
    )


def _release() -> str:
    from importlib.metadata import PackageNotFoundError, version  # 1 MiB, and only enrollment needs it

    try:
        return f"keyreeve/{version('keyreeve')}"[:64]
    except PackageNotFoundError:
        return "keyreeve/unknown"
