"""Cheap requests for costly reads: they make nobody's revocation data stale, and delay no halt and no revocation."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from keyreeve import errors
from keyreeve.keys import make_key
from keyreeve.values import CrlReason
from support.running_ca import AUDITOR, MEMBER, OPERATOR, RunningCa, own_ca, quick_lint, server_csr, unique

__all__ = ["own_ca", "quick_lint"]

SECONDS = 3.0
AT_ONCE = 24
SOON = 2.0
"""Seconds for a halt and a revocation; 1 on a machine with nothing else to do."""
READS: dict[str, tuple[str, Callable[[Any], object]]] = {
    "verifying the audit log": (AUDITOR, lambda client: client.ca.audit.verify()),
    "proofs of consistency": (MEMBER, lambda client: client.ca.audit.checkpoint(consistent_with=1)),
    "listing certificates": (OPERATOR, lambda client: list(client.certificates.list())),
}


@contextmanager
def flood(ca: RunningCa, name: str) -> Iterator[Counter[str]]:
    """Have one caller read as fast as it is answered, many times at once, while the context lasts."""
    who, read = READS[name]
    client, stop, seen = ca.client(who), threading.Event(), Counter[str]()

    def work() -> None:
        while not stop.is_set():
            try:
                read(client)
                seen["answered"] += 1
            except errors.KeyreeveError as refused:
                seen[refused.reason] += 1

    threads = [threading.Thread(target=work) for _ in range(AT_ONCE)]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        stop.set()
        for thread in threads:
            thread.join()


@pytest.mark.parametrize("name", READS)
def test_costly_reads_of_one_caller_stop_no_issuance_no_halt_and_no_revocation(own_ca: RunningCa, name: str) -> None:
    ca, good = own_ca, own_ca.client("operators/operator/good")
    key = make_key()
    for _ in range(20):
        good.certificates.sign("server", server_csr(f"{unique('web')}.example.test", key=key))
    with flood(ca, name) as seen:
        until, signed = time.monotonic() + SECONDS, []
        while time.monotonic() < until:
            signed.append(good.certificates.sign("server", server_csr(f"{unique('web')}.example.test", key=key)))
        began = time.monotonic()
        good.certificates.revoke(signed[0].serial, CrlReason.SUPERSEDED)
        revoked = time.monotonic()
        good.issuance.halt("under load")
        halted = time.monotonic()
    assert len(signed) > 5
    assert revoked - began < SOON
    assert halted - revoked < SOON
    assert seen["answered"] > 0
    assert "REVOCATIONS_STALE" not in seen
