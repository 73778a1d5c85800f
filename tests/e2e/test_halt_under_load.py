"""Issuance is halted under full load with one worker frozen: nothing enters the ledger afterwards, on both databases."""

import os
import signal
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import pytest

from keyreeve import Client
from keyreeve.errors import IssuanceHalted, KeyreeveError
from keyreeve.keys import make_csr, make_key
from keyreeve.request_ids import new_request_id
from keyreeve.retry import NO_RETRY
from keyreeve.values import Name
from support.control_plane import ControlPlane
from support.postgres import Server
from support.waiting import wait_for

T = TypeVar("T")
SIGNERS = CLIENTS = 16
"""So many that connections do not all lead to one worker: the kernel spreads them by chance, and with 6 that was seen."""
WITHIN = timedelta(seconds=2)
WITHIN_ALL = 30.0
"""Seconds that a halt may take while a worker that is frozen holds a lock, on a slow machine."""


class Load:
    """Clients that sign without pause until they are told that issuance is halted."""

    def __init__(self, control_plane: ControlPlane) -> None:
        self.signed = 0
        self.ended: list[BaseException] = []
        self._control_plane = control_plane
        self._csr = make_csr(make_key(), [Name.dns("load.example.test")])
        self._threads = [threading.Thread(target=self._sign, daemon=True) for _ in range(SIGNERS)]
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        for thread in self._threads:
            thread.join(60)
        assert len(self.ended) == SIGNERS

    def _sign(self) -> None:
        with self._control_plane.client() as client:
            try:
                while True:
                    client.certificates.sign("server", self._csr)
                    self.signed += 1
            except KeyreeveError as end:
                self.ended.append(end)


@pytest.mark.timed
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_nothing_is_dated_or_committed_after_a_halt_not_even_by_a_frozen_worker_that_wakes(
    kind: str, own_control_plane: ControlPlane, request: pytest.FixtureRequest
) -> None:
    own_control_plane.up(**_settings(kind, request))
    clients = [Client(own_control_plane.context, timeout=1.0, retry=NO_RETRY) for _ in range(CLIENTS)]
    for client in clients:
        client.issuance.state(timeout=20)
    load = Load(own_control_plane)
    wait_for("certificates are signed", lambda: load.signed > 100)
    frozen, _ = sorted(own_control_plane.children()["worker"])
    os.kill(frozen, signal.SIGSTOP)
    try:
        began = time.monotonic()
        halted_at = _halt(clients)
        assert time.monotonic() - began < WITHIN_ALL
        wait_for("a call is refused by the halt", lambda: load.ended)
        count = len(_ledger(clients))
    finally:
        os.kill(frozen, signal.SIGCONT)
    load.join()
    assert {type(end) for end in load.ended} == {IssuanceHalted}
    entries = _ledger(clients)
    assert len(entries) == count
    assert max(entry.issued_at for entry in entries) <= halted_at + WITHIN
    own_control_plane.run("issuance", "resume", "--reason", "the test is over")
    assert own_control_plane.run("issuance", "status", "-q").out.strip() == "issuing"
    with own_control_plane.client() as client:
        wait_for("signing goes on", lambda: client.certificates.sign("server", load._csr))
    for client in clients:
        client.close()


def _settings(kind: str, request: pytest.FixtureRequest) -> dict[str, str]:
    if kind == "sqlite":
        return {}
    server: Server = request.getfixturevalue("postgresql_server")
    name = f"halt_{uuid.uuid4().hex}"
    server.execute(f"CREATE DATABASE {name}")
    return {"KEYREEVE_CA_DATABASE__URL": server.url(name)}


def _halt(clients: list[Client]) -> datetime:
    request_id = new_request_id()

    def halt(client: Client) -> datetime:
        client.issuance.halt("a test", request_id=request_id, timeout=WITHIN_ALL)
        return datetime.now(UTC)

    return _first_answer(clients, halt)


def _ledger(clients: list[Client]) -> list:
    """The certificates for servers, read while issuance is halted: reads go on."""
    return _first_answer(
        clients, lambda client: list(client.certificates.list(profile="server", page_size=500, timeout=WITHIN_ALL))
    )


def _first_answer(clients: list[Client], ask: Callable[[Client], T]) -> T:
    """That of whichever worker answers first: some of the clients' connections lead to the frozen one."""
    callers = ThreadPoolExecutor(len(clients))
    try:
        for call in as_completed([callers.submit(ask, client) for client in clients]):
            if call.exception() is None:
                return call.result()
    finally:
        callers.shutdown(wait=False)
    raise AssertionError("no worker answered")
