"""Calls between processes over a Unix socket: responses, errors, limits, lost connections."""

import asyncio
import os
import socket
import stat
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from keyreeve.errors import (
    FieldInvalid,
    InternalError,
    KeyreeveError,
    ServiceStopping,
    StoreUnavailable,
    TooManyInFlight,
    Violation,
)
from keyreeve_chassis.processes import ipc
from keyreeve_chassis.processes.ipc import Client, Connection, IpcServer, serve

PATIENCE = 10.0


class Coordinator:
    """A server with handlers of every temper, and what it saw."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.server: IpcServer | None = None
        self.gone: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.started: asyncio.Queue[None] = asyncio.Queue()
        self.release = asyncio.Event()

    async def start(self) -> None:
        self.server = await serve(self.path, self.handlers(), self.on_disconnect)

    async def close(self) -> None:
        self.release.set()
        if self.server is not None:
            await self.server.close()

    def handlers(self) -> dict[str, Callable[[Any, Connection], Awaitable[Any]]]:
        return {"echo": self.echo, "refuse": self.refuse, "break": self.broken, "hold": self.hold, "name": self.name}

    async def echo(self, payload: Any, connection: Connection) -> Any:
        return payload

    async def refuse(self, payload: Any, connection: Connection) -> Any:
        raise FieldInvalid("not so", violations=[Violation("csr", "is empty")], metadata={"max": "3"})

    async def broken(self, payload: Any, connection: Connection) -> Any:
        if payload == "busy":
            raise TooManyInFlight("later", retry_after=timedelta(seconds=1.5))
        raise ZeroDivisionError("secret")

    async def hold(self, payload: Any, connection: Connection) -> Any:
        self.started.put_nowait(None)
        await self.release.wait()
        return payload

    async def name(self, payload: Any, connection: Connection) -> Any:
        connection.state["name"] = payload
        return connection.peer_pid

    async def on_disconnect(self, connection: Connection) -> None:
        self.gone.put_nowait(connection.state)


@pytest.fixture
async def coordinator(tmp_path: Path) -> AsyncIterator[Coordinator]:
    coordinator = Coordinator(tmp_path / "run" / "coordinator.sock")
    await coordinator.start()
    yield coordinator
    await coordinator.close()


@pytest.fixture
async def client(coordinator: Coordinator) -> AsyncIterator[Client]:
    client = Client(coordinator.path)
    yield client
    await client.close()


async def test_plain_values_arrive_as_they_were_sent(client: Client) -> None:
    value = (None, True, -(2**63), 2**64 - 1, 1.5, "text \u4e2d", b"\x00\xff", {"map": (1, 2)}, b"x" * 1_000_000)
    assert await client.call("echo", value, PATIENCE) == value


async def test_calls_are_answered_in_any_order(coordinator: Coordinator, client: Client) -> None:
    slow = asyncio.create_task(client.call("hold", "slow", PATIENCE))
    await coordinator.started.get()
    assert await asyncio.gather(*(client.call("echo", n, PATIENCE) for n in range(100))) == list(range(100))
    coordinator.release.set()
    assert await slow == "slow"


async def test_an_error_of_the_contract_arrives_whole(client: Client) -> None:
    with pytest.raises(FieldInvalid) as refused:
        await client.call("refuse", None, PATIENCE)
    assert (refused.value.message, refused.value.metadata) == ("not so", {"max": "3"})
    assert refused.value.violations == (Violation("csr", "is empty"),)
    with pytest.raises(TooManyInFlight) as busy:
        await client.call("break", "busy", PATIENCE)
    assert busy.value.retry_after == timedelta(seconds=1.5)


async def test_any_other_error_reveals_nothing_and_the_connection_stays_open(client: Client) -> None:
    with pytest.raises(InternalError) as broken:
        await client.call("break", None, PATIENCE)
    assert "secret" not in broken.value.message
    with pytest.raises(InternalError, match="no handler 'other'"):
        await client.call("other", None, PATIENCE)
    assert await client.call("echo", 1, PATIENCE) == 1


async def test_a_call_that_is_not_answered_in_time_is_an_unavailable_store(
    coordinator: Coordinator, client: Client
) -> None:
    with pytest.raises(StoreUnavailable, match=r"within 0\.01 seconds"):
        await client.call("hold", None, 0.01)
    coordinator.release.set()
    assert await client.call("echo", "next", PATIENCE) == "next"


async def test_without_a_server_the_store_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="cannot be reached"):
        await Client(tmp_path / "no.sock").call("echo", None, PATIENCE)


async def test_calls_in_flight_fail_when_the_connection_is_lost_and_the_next_connects_again(
    coordinator: Coordinator, client: Client
) -> None:
    held = asyncio.create_task(client.call("hold", None, PATIENCE))
    await coordinator.started.get()
    assert coordinator.server is not None
    [side] = coordinator.server._connections
    side.close()
    with pytest.raises(StoreUnavailable, match="lost"):
        await held
    assert await client.call("echo", "again", PATIENCE) == "again"


async def test_a_server_that_closes_answers_what_it_has_in_hand_and_refuses_the_rest(
    coordinator: Coordinator, client: Client
) -> None:
    held = asyncio.create_task(client.call("hold", "kept", PATIENCE))
    await coordinator.started.get()
    assert coordinator.server is not None
    closing = asyncio.create_task(coordinator.server.close())
    with pytest.raises(ServiceStopping):
        await client.call("echo", None, PATIENCE)
    coordinator.release.set()
    assert await held == "kept"
    await closing
    coordinator.server = None
    with pytest.raises(StoreUnavailable):
        await client.call("echo", None, PATIENCE)
    await coordinator.start()
    assert await client.call("echo", "back", PATIENCE) == "back"


async def test_the_server_learns_that_a_client_is_gone_after_its_calls_are_done(
    coordinator: Coordinator, client: Client
) -> None:
    assert await client.call("name", "worker-7", PATIENCE) == os.getpid()
    held = asyncio.create_task(client.call("hold", None, PATIENCE))
    await coordinator.started.get()
    await client.close()
    with pytest.raises(StoreUnavailable):
        await held
    assert coordinator.gone.empty()
    coordinator.release.set()
    assert await asyncio.wait_for(coordinator.gone.get(), PATIENCE) == {"name": "worker-7"}


async def test_a_message_beyond_the_limit_is_refused_where_it_is_made(client: Client) -> None:
    with pytest.raises(ValueError, match="exceeds the limit"):
        await client.call("echo", b"x" * (ipc.MAX_FRAME_BYTES + 1), PATIENCE)
    assert await client.call("echo", 1, PATIENCE) == 1


@pytest.mark.parametrize(
    "sent", [struct.pack(">I", ipc.MAX_FRAME_BYTES + 1), struct.pack(">I", 1) + b"\xc1", b"\xff" * 64]
)
async def test_bytes_that_are_no_frame_close_that_connection_alone(
    coordinator: Coordinator, client: Client, sent: bytes
) -> None:
    reader, writer = await asyncio.open_unix_connection(str(coordinator.path))
    writer.write(sent)
    assert await asyncio.wait_for(reader.read(), PATIENCE) == b""
    writer.close()
    assert await client.call("echo", 1, PATIENCE) == 1


async def test_more_calls_than_the_limit_are_read_later_and_all_answered(
    coordinator: Coordinator, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ipc, "MAX_IN_FLIGHT", 8)
    calls = [asyncio.create_task(client.call("hold", n, PATIENCE)) for n in range(50)]
    await coordinator.started.get()
    coordinator.release.set()
    assert await asyncio.gather(*calls) == list(range(50))


async def test_other_users_cannot_reach_the_socket(coordinator: Coordinator, tmp_path: Path) -> None:
    assert stat.S_IMODE(coordinator.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(coordinator.path.parent.stat().st_mode) == 0o700
    coordinator.path.parent.chmod(0o750)
    with pytest.raises(PermissionError, match="chmod 700"):
        await serve(coordinator.path.with_name("other.sock"), {})
    with pytest.raises(ValueError, match="longer than 107 bytes"):
        await serve(tmp_path / ("x" * 100) / "coordinator.sock", {})


async def test_a_process_of_another_user_is_refused(
    coordinator: Coordinator, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ipc, "_allowed_users", lambda: frozenset({4_000_000}))
    with pytest.raises(StoreUnavailable):
        await client.call("echo", None, PATIENCE)


def test_a_stale_socket_file_is_replaced(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    path = tmp_path / "coordinator.sock"
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(path))
    left.close()

    async def run() -> None:
        server = await serve(path, {})
        await server.close()

    asyncio.run(run())
    assert not path.exists()


def test_every_error_of_the_contract_can_cross() -> None:
    error = FieldInvalid("x", violations=[Violation("a", "b")], retry_after=timedelta(seconds=2), metadata={"k": "v"})
    back = ipc._error_from(ipc._error_values(error))
    assert isinstance(back, KeyreeveError)
    assert (type(back), back.retry_after) == (FieldInvalid, timedelta(seconds=2))
