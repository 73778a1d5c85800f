"""The transport of a connection without a network: what it reads before a handshake is complete, and what it keeps unsent."""

import asyncio
from typing import Any

from keyreeve_chassis.rpc import listener as listening
from keyreeve_chassis.rpc.limits import ByteBudget
from keyreeve_chassis.rpc.listener import Listener
from keyreeve_chassis.rpc.sockets.transport import ListenerLimits, Transport
from support.http2_attacker import SETTINGS, frame
from support.http2_fuzzer import PREFACE
from support.http2_peer import LIMITS, Http2Peer
from support.virtual_time import run_virtually

LISTENER = ListenerLimits(LIMITS, 100, 100, 100, 100, 10.0)


class Socket(asyncio.Transport):
    """What asyncio hands to a protocol; nobody reads what is written to it."""

    max_size = 0

    def __init__(self) -> None:
        super().__init__()
        self.reading = True
        self.unsent = 0
        self.aborted = False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Not of interest."""

    def write(self, data: Any) -> None:
        self.unsent += len(data)

    def write_eof(self) -> None:
        """Not of interest."""

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def is_closing(self) -> bool:
        return self.aborted

    def abort(self) -> None:
        self.aborted = True


class Handshake:
    """TLS that waits for more: a `TlsSession` and who begins it."""

    def __init__(self) -> None:
        self.waiting = 0
        self.steps = 0

    def accept(self) -> "Handshake":
        return self

    def take_in(self, data: bytes) -> None:
        self.waiting += len(data)

    def handshake(self) -> bool:
        self.steps += 1
        self.waiting = 0
        return False

    def output(self) -> bytes:
        return b""


def listener(tls: Any = None, most: int = 1 << 20) -> Listener:
    return Listener(None, LISTENER, ByteBudget(most), tls, engine=Http2Peer.engine)


def connection(owner: Listener, port: int = 1) -> tuple[Transport, Socket]:
    transport, plain = Transport(owner, f"ipv4:192.0.2.1:{port}"), Socket()
    transport.connection_made(plain)
    return transport, plain


def test_a_peer_whose_handshake_waits_is_not_read_beyond_a_bound():
    async def flood():
        tls = Handshake()
        transport, plain = connection(listener(tls))
        while plain.reading:
            transport.data_received(bytes(10_000))
        assert tls.waiting <= 32 * 1024
        transport.shake_hands()
        assert plain.reading
        while not plain.aborted:
            transport.data_received(bytes(10_000))
            transport.shake_hands()
        assert 10 < tls.steps < 30

    run_virtually(flood())


def test_handshakes_take_turns_with_everything_else():
    async def rush():
        owner, done = listener(), []
        for number in range(3):
            owner.turn(Waiting(done, number))
        for turn in range(1, 4):
            await asyncio.sleep(0)
            assert len(done) == turn

    run_virtually(rush())


class Waiting:
    """A connection whose handshake waits, or that has ended meanwhile."""

    address = "192.0.2.1"

    def __init__(self, done: list[Any], name: Any, *, ended: bool = False) -> None:
        self._done, self._name, self._ended = done, name, ended

    def shake_hands(self) -> bool:
        if not self._ended:
            self._done.append(self._name)
        return not self._ended


def test_connections_that_have_ended_do_not_keep_others_of_their_address_waiting():
    async def flood():
        owner, done = listener(), []
        owner.slow_down(Waiting.address)
        for number in range(2_000):
            owner.turn(Waiting(done, number, ended=True))
        owner.turn(Waiting(done, "alive"))
        owner.turn(Waiting(done, "next"))
        await asyncio.sleep(1.5 * listening._SLOW_INTERVAL)
        assert done == ["alive"]
        await asyncio.sleep(listening._SLOW_INTERVAL)
        assert done == ["alive", "next"]

    run_virtually(flood())


def test_handshakes_of_an_address_are_slow_for_a_while_and_those_of_others_are_not():
    async def calls():
        owner, done = listener(), []
        owner.slow_down("192.0.2.2")
        owner.turn(Waiting(done, "another"))
        await asyncio.sleep(0)
        assert done == ["another"]
        owner.slow_down(Waiting.address)
        owner.turn(Waiting(done, "slow"))
        await asyncio.sleep(0)
        assert done == ["another"]
        await asyncio.sleep(listening._SLOW_SECONDS + 1)
        owner.turn(Waiting(done, "again"))
        await asyncio.sleep(0)
        assert done == ["another", "slow", "again"]

    run_virtually(calls())


def test_what_a_socket_has_not_taken_counts_until_its_connection_is_lost():
    async def unread():
        owner = listener()
        transport, plain = connection(owner)
        assert owner.budget.total == plain.unsent > 0
        plain.unsent = 0
        transport.tick(1.0)
        assert owner.budget.total == 0
        plain.unsent = 300_000
        transport.tick(2.0)
        assert owner.budget.total == 300_000
        transport.connection_lost(None)
        assert owner.budget.total == 0

    run_virtually(unread())


def test_a_connection_that_takes_no_bytes_is_closed_when_there_is_no_room_for_them():
    async def unread():
        owner = listener(most=500_000)
        found = [connection(owner, port) for port in range(3)]
        for transport, plain in found:
            plain.unsent = 200_000
            transport.tick(1.0)
        assert [plain.aborted for _, plain in found] == [True, False, False]
        assert owner.budget.total <= 500_000

    run_virtually(unread())


def test_a_connection_that_takes_no_bytes_for_long_is_closed():
    async def unread():
        transport, plain = connection(listener())
        quick, taken = connection(listener())
        seconds = 0.0
        for one in (transport, quick):
            one.data_received(PREFACE + frame(SETTINGS, 0, 0))
        while not plain.aborted:
            transport.data_received(b"")
            quick.data_received(b"")
            taken.unsent = max(1, taken.unsent - 1)
            for one in (transport, quick):
                one.tick(seconds)
            seconds += 1
            assert seconds < 2 * LIMITS.stall_timeout
        assert seconds > LIMITS.stall_timeout
        assert not taken.aborted

    run_virtually(unread())


def test_callers_without_a_certificate_are_known_by_their_address():
    async def refused():
        owner = listener()
        first, _ = connection(owner, 1)
        second, _ = connection(owner, 2)
        assert first.caller is second.caller is owner.standing("192.0.2.1")
        while first.caller.reset(0.0):
            pass
        third, plain = connection(owner, 3)
        assert third.caller is None
        third.data_received(bytes(300_000))
        assert plain.aborted

    run_virtually(refused())
