"""Cheap requests for costly reads: they make nobody's revocation data stale, and delay no halt and no revocation."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
from cryptography import x509

from keyreeve import errors
from keyreeve.keys import make_key
from keyreeve.values import CrlReason
from keyreeve_ca.certificates.serials import SERIAL_BYTES
from keyreeve_ca.revocation.known_revocations import LOOK_SECONDS
from support.running_ca import AUDITOR, MEMBER, OPERATOR, RunningCa, own_ca, quick_lint, server_csr, unique
from support.waiting import wait_for

__all__ = ["own_ca", "quick_lint"]

SECONDS = 3.0
AT_ONCE = 24
SOON = 1.0
"""Seconds for a halt and a revocation, beyond what one takes without the reads."""
CHECK = "/grpc.health.v1.Health/Check"
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


@pytest.mark.sqlite_first
@pytest.mark.parametrize("name", READS)
def test_costly_reads_of_one_caller_stop_no_issuance_no_halt_and_no_revocation(own_ca: RunningCa, name: str) -> None:
    ca, good = own_ca, own_ca.client("operators/operator/good")
    key = make_key()
    others = [good.certificates.sign("server", server_csr(f"{unique('web')}.example.test", key=key)) for _ in range(20)]
    began = time.monotonic()
    good.certificates.revoke(others[0].serial, CrlReason.SUPERSEDED)
    alone = time.monotonic() - began
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
    assert revoked - began < SOON + alone
    assert halted - revoked < SOON + alone
    assert seen["answered"] > 0
    assert "REVOCATIONS_STALE" not in seen


def test_a_worker_hears_of_a_revocation_while_all_threads_that_read_for_its_callers_are_busy(own_ca: RunningCa) -> None:
    ca, store = own_ca, own_ca.servings[0].live._store
    context = ca.new_context(MEMBER)
    check = ca.channel(context=context).unary_unary(CHECK)
    check(b"", timeout=20)
    certificate = x509.load_pem_x509_certificates(context.certificate.read_bytes())[0]
    serial = certificate.serial_number.to_bytes(SERIAL_BYTES, "big").hex()
    ended = threading.Event()
    reads = [ca.begin(store.read(lambda _: ended.wait(60))) for _ in range(16)]
    try:
        ca.client(worker=1).certificates.revoke(serial, CrlReason.SUPERSEDED)
        began = time.monotonic()
        wait_for("the worker refuses it", lambda: refused_as_unknown(check), 20.0)
        assert time.monotonic() - began < 2 * LOOK_SECONDS
        assert not any(read.done() for read in reads)
    finally:
        ended.set()


def refused_as_unknown(check: Callable[..., bytes]) -> bool:
    """Whether a call is refused for its caller; one that takes long was not."""
    try:
        check(b"", timeout=0.5)
    except grpc.RpcError as refused:
        return bool(refused.code() is grpc.StatusCode.UNAUTHENTICATED)
    return False
