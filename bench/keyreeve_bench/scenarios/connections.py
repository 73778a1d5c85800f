"""`connections`: new mutual-TLS connections per second, beside step-ca where it is on PATH.

A client counts a connection when the server's first HTTP/2 frame has arrived: in TLS 1.3 its own handshake ends before the server
has judged the certificate. No session is resumed. Both servers are measured in turn, with the same clients.
"""

import asyncio
import json
import os
import shutil
import socket
import ssl
import statistics
import struct
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from keyreeve import Context
from keyreeve_bench.baselines import step_ca
from keyreeve_bench.control_planes import control_plane
from keyreeve_bench.local_processes import Group, server_group
from keyreeve_bench.scenarios.scenario import Figure, Place, ratio

LEAST = 1.0
PROCESSES = 2
AT_ONCE = 8
"""Connections that each client process opens at a time."""
_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000000040000000000")
"""The client's connection preface (RFC 9113, 3.4)."""
_TIMEOUT = 10.0


@dataclass(frozen=True, slots=True)
class Server:
    """A server to connect to, and the files of the client's identity."""

    port: int
    name: str
    roots: Path
    certificate: Path
    key: Path


def run(place: Place) -> tuple[list[Figure], dict[str, Any]]:
    """Measure in turn. Raises `keyreeve.errors`."""
    ours: list[tuple[float, float]] = []
    theirs: list[tuple[float, float]] = []
    with (
        control_plane(place.directory, place.database) as state_directory,
        ProcessPoolExecutor(PROCESSES, mp_context=get_context("spawn")) as clients,
    ):
        context = Context.load(state_directory.context)
        port = int(context.endpoints["ca"][0].rpartition(":")[2])
        server = Server(port, f"ca.svc.{context.trust_domain}", context.bundle, context.certificate, context.key)
        group = server_group(state_directory, None)
        with _step_ca(place.directory) as other:
            for _ in range(place.runs):
                ours.append(_measure(clients, server, group, place.duration))
                if other is not None:
                    theirs.append(_measure(clients, other, Group(os.getpid(), _command()), place.duration))
    figures = _figures("the CA service", ours)
    if theirs:
        rates = [statistics.median(rate for rate, _ in of_one) for of_one in (ours, theirs)]
        figures += [*_figures("step-ca", theirs), Figure("ours / step-ca's", ratio(*rates), at_least=LEAST)]
    return figures, {"measured": ours, "step_ca_measured": theirs}


def _figures(name: str, measured: Sequence[tuple[float, float]]) -> list[Figure]:
    return [
        Figure(f"new connections to {name}", statistics.median(rate for rate, _ in measured), "1/s"),
        Figure(f"CPU of {name}", statistics.median(cost for _, cost in measured), "us each"),
    ]


def _command() -> str | None:
    return shutil.which("step-ca")


@contextmanager
def _step_ca(directory: Path) -> Iterator[Server | None]:
    """Run step-ca while the context lasts; None where it is not on PATH."""
    if _command() is None:
        yield None
        return
    place = directory / "step-ca"
    place.mkdir()
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        try:
            orders = json.loads(runner.run(step_ca.start(place, [], stack)).orders.read_text())
            files = (Path(orders[name]) for name in ("roots", "certificate", "key"))
            yield Server(orders["port"], "localhost", *files)
        finally:
            runner.run(stack.aclose())


def _measure(clients: Executor, server: Server, group: Group | None, seconds: float) -> tuple[float, float]:
    """Connections per second, and microseconds of the server's CPU for each; 0 where its processes are not known."""
    before = 0.0 if group is None else group.usage().cpu_seconds
    began = time.monotonic()
    done = sum(clients.map(connect_again, [server] * PROCESSES, [seconds] * PROCESSES))
    took = time.monotonic() - began
    used = 0.0 if group is None else group.usage().cpu_seconds - before
    return round(done / took, 1), round(used * 1e6 / max(1, done), 1)


def connect_again(server: Server, seconds: float) -> int:
    """Open and close connections for a time, and return how many the server has accepted."""
    context = ssl.create_default_context(cafile=server.roots)
    context.load_cert_chain(server.certificate, server.key)
    context.set_alpn_protocols(["h2"])
    until = time.monotonic() + seconds

    def again(_: int) -> int:
        done = 0
        while time.monotonic() < until:
            connect(context, server)
            done += 1
        return done

    with ThreadPoolExecutor(AT_ONCE) as threads:
        return sum(threads.map(again, range(AT_ONCE)))


def connect(context: ssl.SSLContext, server: Server) -> None:
    """Open a connection, wait for the server's first frame, and close it. Raises `OSError`."""
    with socket.create_connection(("127.0.0.1", server.port), _TIMEOUT) as plain:
        # Closed with a reset: thousands of ports would wait for a minute otherwise.
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        with context.wrap_socket(plain, server_hostname=server.name) as connection:
            connection.sendall(_HELLO)
            if not connection.recv(1):
                raise ConnectionError("the server has closed the connection")
