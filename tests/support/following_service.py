"""A service beside a CA of a test: enrolled by token, with the guard of the chassis and what it knows from the feed."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc

from keyreeve import Context
from keyreeve.identity import service_dns_name
from keyreeve_ca import local_admin
from keyreeve_chassis.guard.access import Freshness
from keyreeve_chassis.guard.peers import PeerVerifier
from keyreeve_chassis.guard.router import Router
from keyreeve_chassis.identity.evidence import TokenFile
from keyreeve_chassis.identity.opening import EnrolledIdentity, open_identity
from keyreeve_chassis.rpc.server import start_server
from keyreeve_chassis.settings.serving import ServingSettings
from keyreeve_chassis.tls import LiveServerCredentials
from support.echo_service import ADMIN_ECHO, ECHO, WATCH, EchoRequest, EchoResponse, EchoServicer, echo_service
from support.enrolling import address_of
from support.running import refusal
from support.running_ca import RunningCa, unique
from support.waiting import moment


def put_token(ca: RunningCa, file: Path, instance: str, service: str = "membership") -> None:
    """Do what `keyreeve up` does for a service that has no usable certificate."""
    made = ca.run(local_admin.service_token(ca.settings.coordinator_socket, service, instance, address_of(ca)))
    file.write_text(made["token"])


@dataclass(frozen=True)
class FollowingService:
    """One that runs: its methods are those of the echo service, of which `AdminEcho` tolerates old knowledge."""

    identity: EnrolledIdentity
    servicer: EchoServicer
    port: int
    trust_domain: str

    @asynccontextmanager
    async def channel(self, context: Context) -> AsyncIterator[grpc.aio.Channel]:
        """A channel of a caller with this context's certificate."""
        credentials = grpc.ssl_channel_credentials(
            context.bundle.read_bytes(), context.key.read_bytes(), context.certificate.read_bytes()
        )
        name = service_dns_name("membership", self.trust_domain)
        options = [("grpc.ssl_target_name_override", name), ("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.secure_channel(f"127.0.0.1:{self.port}", credentials, options=options) as channel:
            yield channel

    async def ask(self, context: Context, method: str = ECHO) -> str:
        """Call on a connection of its own."""
        async with self.channel(context) as channel:
            return await ask(channel, method)


async def ask(channel: grpc.aio.Channel, method: str = ECHO) -> str:
    """How a call ends: `OK`, or the reason of its refusal."""
    call = channel.unary_unary(method, EchoRequest.SerializeToString, EchoResponse.FromString)
    try:
        await call(EchoRequest(text="x"), timeout=20)
    except grpc.aio.AioRpcError as error:
        return refusal(error).reason or error.code().name
    return "OK"


def watch(channel: grpc.aio.Channel) -> Any:
    """An open stream."""
    return channel.unary_stream(WATCH, EchoRequest.SerializeToString, EchoResponse.FromString)(EchoRequest(text="x"))


async def until(wanted: str, look: Callable[[], Any], seconds: float = 5.0) -> float:
    """Look until calls end as wanted; how many seconds that took."""
    began = time.monotonic()
    while (seen := await look()) != wanted:
        assert time.monotonic() - began < seconds, f"{seen}, not {wanted}, after {seconds} s"
        await moment()
    return time.monotonic() - began


@asynccontextmanager
async def following_service(
    ca: RunningCa, directory: Path, *, instance: str | None = None, enroll: bool = True
) -> AsyncIterator[FollowingService]:
    """Enroll and serve, or go on with what is in the directory."""
    instance = instance or unique("one")
    evidence = TokenFile(directory / "enrollment-token")
    if enroll:
        await asyncio.to_thread(put_token, ca, evidence.path, instance)
    identity = ca.spiffe_id(f"services/membership/{instance}")
    async with open_identity(identity, directory / "identity", evidence, now=time.time) as opened:
        servicer = EchoServicer()
        service = echo_service(servicer)
        rows = {**service.rows, ADMIN_ECHO: replace(service.rows[ADMIN_ECHO], freshness=Freshness.TOLERANT)}
        running = await start_server(
            ServingSettings(health_port=None, verify_interval=0.1),
            Router([replace(service, rows=rows)]),
            PeerVerifier(opened.trust_view, lambda: int(time.time()), opened.revocations),
            LiveServerCredentials(opened.server_identity),
        )
        jobs = [asyncio.ensure_future(job) for job in opened.jobs()]
        try:
            yield FollowingService(opened, servicer, running.port, ca.settings.trust_domain)
        finally:
            await running.stop(0)
            for job in jobs:
                job.cancel()
            await asyncio.wait(jobs)
