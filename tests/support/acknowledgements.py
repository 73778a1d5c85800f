"""Clients that sign continuously through kills, and the fsynced file of acknowledged certificates."""

import os
import threading
from base64 import b64decode, b64encode
from dataclasses import dataclass
from pathlib import Path

from keyreeve.errors import KeyreeveError, Unauthenticated
from keyreeve.keys import make_csr, make_key
from keyreeve.request_ids import new_request_id
from keyreeve.values import Name, SignItem
from support.control_plane import ControlPlane

BATCH = 7


@dataclass(frozen=True)
class Acknowledged:
    """One certificate that a client received."""

    request_id: str
    serial: str
    der: bytes


class Signers:
    """Threads that each sign one certificate after the other, every fifth time a batch.

    A failed request is repeated with the same request id until it is answered.
    """

    def __init__(self, control_plane: ControlPlane, file: Path, threads: int = 4) -> None:
        self._control_plane = control_plane
        self._handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._changed = threading.Condition()
        self._file = file
        self._stop = threading.Event()
        self.acknowledged = 0
        self.repeated = 0
        self.unexpected: list[str] = []
        self._threads = [threading.Thread(target=self._sign, args=(n,), name=f"signer {n}") for n in range(threads)]

    def __enter__(self) -> "Signers":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(90)
        os.close(self._handle)

    def wait_for_more(self, count: int, seconds: float = 60.0) -> None:
        """Wait until this many more certificates have been acknowledged, or fail."""
        with self._changed:
            goal = self.acknowledged + count
            if not self._changed.wait_for(lambda: self.acknowledged >= goal, seconds):
                raise AssertionError(f"{goal - self.acknowledged} of {count} acknowledgements did not come")

    def read(self) -> list[Acknowledged]:
        """What the file holds."""
        rows = [line.split() for line in self._file.read_text().splitlines()]
        return [Acknowledged(request_id, serial, b64decode(der)) for request_id, serial, der in rows]

    def _sign(self, number: int) -> None:
        csr = make_csr(make_key(), [Name.dns(f"signer-{number}.example.test")])
        with self._control_plane.client(timeout=10.0) as client:
            turn = 0
            while not self._stop.is_set():
                turn += 1
                request_id = new_request_id()
                items = [SignItem("server", csr)] * (BATCH if turn % 5 == 0 else 1)
                while True:
                    try:
                        outcomes = client.certificates.sign_many(items, request_id)
                        break
                    except KeyreeveError as failure:
                        self._note_failure(failure)
                        if self._stop.is_set():
                            return
                for outcome in outcomes:
                    if isinstance(outcome, KeyreeveError):
                        self.unexpected.append(f"an item: {outcome!r}")
                        continue
                    line = f"{request_id} {outcome.serial} {b64encode(outcome.certificate_der).decode()}\n"
                    os.write(self._handle, line.encode())
                os.fsync(self._handle)
                with self._changed:
                    self.acknowledged += len(outcomes)
                    self._changed.notify_all()

    def _note_failure(self, failure: KeyreeveError) -> None:
        with self._changed:
            self.repeated += 1
            # A service that lost its processes may be away, never wrong about who we are or what we asked for.
            if not failure.retryable or isinstance(failure, Unauthenticated):
                self.unexpected.append(repr(failure))
