"""Idle connections of one address: they take its share of a listener, and lock nobody else out."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from keyreeve.enrollment import enroll
from support.echo_service import ECHO, EchoRequest, EchoResponse, echo_service
from support.enrolling import OPEN_TO_TESTS, new_token
from support.running import serving
from support.running_ca import RunningCa, running
from support.waiting import wait_until

IDLE = 1_024
ATTACKER = ("127.0.0.3", 0)


@asynccontextmanager
async def idle_connections(address: str, count: int, *, tls: ssl.SSLContext | None) -> AsyncIterator[list[bool]]:
    """Connections from the attacker's address that say nothing; the value tells of each whether it is still open."""
    host, _, port = address.rpartition(":")
    held: list[bool] = []
    writers, readings = [], []

    async def watch(at: int, reader: asyncio.StreamReader) -> None:
        try:
            while await reader.read(65536):
                pass
        except OSError:
            """It was cut."""
        held[at] = False

    for at in range(count):
        held.append(False)
        try:
            reader, writer = await asyncio.open_connection(host, int(port), ssl=tls, local_addr=ATTACKER)
        except (OSError, ssl.SSLError):
            continue
        held[at] = True
        writers.append(writer)
        readings.append(asyncio.ensure_future(watch(at, reader)))
    try:
        yield held
    finally:
        for writer in writers:
            writer.transport.abort()
        await asyncio.gather(*readings, return_exceptions=True)


async def test_one_address_has_its_share_of_the_connections_and_another_its_own() -> None:
    async with (
        serving([echo_service()], connections_per_address=3) as server,
        idle_connections(server.address, 20, tls=None) as held,
    ):
        await wait_until("those beyond it are closed", lambda: sum(held) == 3, 20)
        async with server.channel(server.hierarchies.control.person("operators/admin/ann")) as channel:
            echo = channel.unary_unary(ECHO, EchoRequest.SerializeToString, EchoResponse.FromString)
            assert (await echo(EchoRequest(text="here"), timeout=20)).text == "here"


async def test_a_connection_of_an_address_that_ends_makes_room_for_another() -> None:
    async with serving([echo_service()], connections_per_address=3) as server:
        for _ in range(4):
            async with idle_connections(server.address, 3, tls=None) as held:
                assert sum(held) == 3
            await wait_until("they are gone", lambda: server.running.connections == 0, 20)


@pytest.fixture(scope="module")
def ca(request: pytest.FixtureRequest) -> Iterator[RunningCa]:
    with running("sqlite", request, workers=1, enroll=OPEN_TO_TESTS) as made:
        yield made


@pytest.mark.faults
async def test_idle_connections_of_one_address_keep_nobody_from_enrolling(ca: RunningCa, tmp_path: Path) -> None:
    nobody = ssl.create_default_context()
    nobody.check_hostname = False
    nobody.verify_mode = ssl.CERT_NONE
    nobody.set_alpn_protocols(["h2"])
    most = ca.settings.enroll.connections_per_address
    token = await asyncio.to_thread(new_token, ca)
    async with idle_connections(token.address, IDLE, tls=nobody) as held:
        await wait_until("those beyond the share are closed", lambda: sum(held) <= most, 20)
        context = await asyncio.to_thread(enroll, token.text(), tmp_path / "me")
        assert context.certificate.exists()
        await wait_until("the others have timed out", lambda: not any(held), 40)
