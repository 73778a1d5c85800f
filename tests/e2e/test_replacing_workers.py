"""Workers are killed or replaced under load: no call of an SDK client fails."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from keyreeve import Client, Name, SignedCertificate, make_csr, make_key
from support.control_plane import ControlPlane
from support.waiting import wait_for

BETWEEN = 60
"""Calls to be answered between two events."""


class Callers:
    """Threads that call without pause, as programs do that leave repeats to the SDK; any error is a failure."""

    def __init__(self, control_plane: ControlPlane) -> None:
        self.clients = [control_plane.client(), Client(control_plane.context, coalesce=False)]
        self.failures: list[BaseException] = []
        self.signed: list[SignedCertificate] = []
        self.answered = 0
        self._changed = threading.Condition()
        self._stop = threading.Event()
        csr = make_csr(make_key(), [Name.dns("web.dev.localhost")])
        works = [self._signing(self.clients[0], csr)] * 4 + [self._signing(self.clients[1], csr)] * 2
        works += [lambda: self.clients[1].profiles.get("server")]
        self._threads = [threading.Thread(target=self._call, args=(work,)) for work in works]

    def _signing(self, client: Client, csr: bytes) -> Callable[[], object]:
        return lambda: self.signed.append(client.certificates.sign("server", csr))

    def _call(self, work: Callable[[], Any]) -> None:
        while not self._stop.is_set():
            try:
                work()
            except BaseException as failure:  # noqa: BLE001 - told by the test
                self.failures.append(failure)
                return
            with self._changed:
                self.answered += 1
                self._changed.notify_all()

    @contextmanager
    def calling(self) -> Iterator[None]:
        for thread in self._threads:
            thread.start()
        try:
            self.wait_for_more()
            yield
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join(60)

    def wait_for_more(self) -> None:
        with self._changed:
            goal = self.answered + BETWEEN
            assert self._changed.wait_for(lambda: self.answered >= goal or self.failures, timeout=60)
        assert self.failures == []


@pytest.mark.thorough_on("sqlite")
@pytest.mark.faults
@pytest.mark.timeout(400)
def test_no_call_fails_while_workers_are_replaced(database: str, own_control_plane: ControlPlane) -> None:
    own_control_plane.configure(database)
    own_control_plane.up()
    callers = Callers(own_control_plane)
    with callers.calling():
        for _ in range(3):
            before, manager = own_control_plane.children(), own_control_plane.manager()
            done = own_control_plane.run("restart")
            assert done.code == 0, done.err
            after = own_control_plane.children()
            assert not set(before["worker"]) & set(after["worker"])
            assert len(after["worker"]) == len(before["worker"])
            assert (after["coordinator"], own_control_plane.manager()) == (before["coordinator"], manager)
            assert after["fork_server"] != before["fork_server"], "the code on disk is imported again"
            callers.wait_for_more()
    assert callers.failures == []
    assert len({signed.serial for signed in callers.signed}) == len(callers.signed)
    with own_control_plane.client() as client:
        for signed in callers.signed[:: max(1, len(callers.signed) // 50)]:
            assert client.certificates.get(signed.serial).certificate_der == signed.certificate_der


@pytest.mark.faults
@pytest.mark.timeout(400)
def test_no_call_fails_when_a_worker_is_killed_and_another_takes_its_place(
    database: str, own_control_plane: ControlPlane
) -> None:
    own_control_plane.configure(database)
    own_control_plane.up()
    callers = Callers(own_control_plane)
    with callers.calling():
        for _ in range(3):
            before = own_control_plane.children()["worker"]
            os.kill(before[0], signal.SIGKILL)
            wait_for("another has its place", lambda before=before: _others(own_control_plane, before))
            wait_for("and listens", lambda before=before: own_control_plane.listeners() == len(before))
            callers.wait_for_more()
            assert before[0] not in own_control_plane.children()["worker"]
    assert callers.failures == []


@pytest.mark.faults
@pytest.mark.timeout(400)
def test_a_change_that_workers_alone_cannot_take_up_is_refused_by_name(own_control_plane: ControlPlane) -> None:
    own_control_plane.up()
    config, before = own_control_plane.state_directory.config("ca"), own_control_plane.children()
    asked = config.read_text()
    config.write_text(asked + "drain_seconds: 7\n")
    refused = own_control_plane.run("restart")
    assert refused.code == 1
    assert "drain_seconds" in refused.err
    config.write_text(asked + "nonsense: 7\n")
    refused = own_control_plane.run("restart")
    assert refused.code == 1
    assert "the settings cannot be used" in refused.err
    assert own_control_plane.children() == before
    config.write_text(asked.replace("listen:\n", "listen:\n  calls_in_flight: 1\n"))
    assert own_control_plane.run("restart").code == 0
    assert not set(own_control_plane.children()["worker"]) & set(before["worker"])
    own_control_plane.down()
    refused = own_control_plane.run("restart")
    assert refused.code == 1
    assert "does not run" in refused.err


def _others(control_plane: ControlPlane, before: list[int]) -> bool:
    """Whether as many workers run as before, not all of them the same."""
    workers = control_plane.children()["worker"]
    return len(workers) == len(before) and set(workers) != set(before)
