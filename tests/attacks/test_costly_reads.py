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

from keyreeve import Client, errors
from keyreeve.values import CrlReason, SignedCertificate, SignItem
from keyreeve_ca.certificates.serials import SERIAL_BYTES
from keyreeve_ca.revocation.known_revocations import LOOK_SECONDS
from keyreeve_chassis.audit.log import SqlAuditLog, Verified
from keyreeve_chassis.database.opening import READERS
from support.running_ca import AUDITOR, MEMBER, OPERATOR, RunningCa, own_ca, quick_lint, server_csr, unique
from support.waiting import wait_for

__all__ = ["own_ca", "quick_lint"]

SECONDS = 2.0
AT_ONCE = 24
SOON = 1.0
"""Seconds for a halt and a revocation, beyond what one takes without the reads."""
FILLED = 200
"""Certificates in the ledger when the reads begin."""
KEPT = 0.07
"""Of what the good client gets alone; reads, signatures and both clients share one process and its lock."""
GIVEN_UP = 0.1
"""Seconds after which a caller gives up."""
VERIFY = "/keyreeve.audit.v1.AuditService/VerifyAuditChain"
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


def fill(client: Client) -> list[SignedCertificate]:
    """Fill the ledger."""
    csr = server_csr(f"{unique('web')}.example.test")
    signed = []
    for _ in range(FILLED // 100):
        outcomes = client.certificates.sign_many([SignItem("server", csr)] * 100)
        signed += [one for one in outcomes if isinstance(one, SignedCertificate)]
    assert len(signed) == FILLED
    return signed


def sign_for(client: Client, seconds: float) -> list[SignedCertificate]:
    """Sign one certificate after the other for so long."""
    until, signed, csr = time.monotonic() + seconds, [], server_csr(f"{unique('web')}.example.test")
    while time.monotonic() < until:
        signed.append(client.certificates.sign("server", csr))
    return signed


@pytest.mark.timed
@pytest.mark.parametrize("name", READS)
def test_costly_reads_of_one_caller_stop_no_issuance_no_halt_and_no_revocation(own_ca: RunningCa, name: str) -> None:
    ca, good = own_ca, own_ca.client("operators/operator/good")
    others = fill(good)
    began = time.monotonic()
    good.certificates.revoke(others[0].serial, CrlReason.SUPERSEDED)
    alone = time.monotonic() - began
    before = len(sign_for(good, SECONDS / 2)) * 2
    with flood(ca, name) as seen:
        signed = sign_for(good, SECONDS)
        began = time.monotonic()
        good.certificates.revoke(signed[0].serial, CrlReason.SUPERSEDED)
        revoked = time.monotonic()
        good.issuance.halt("under load")
        halted = time.monotonic()
    print(f"{name}: {len(signed)} of {before} signed, {dict(seen)}")
    assert len(signed) > before * KEPT
    assert revoked - began < SOON + alone
    assert halted - revoked < SOON + alone
    assert seen["answered"] > 0
    assert "REVOCATIONS_STALE" not in seen


def test_a_read_whose_caller_gives_up_keeps_its_turn_and_no_second_thread_reads_for_such_callers(
    own_ca: RunningCa, monkeypatch: pytest.MonkeyPatch
) -> None:
    ca, ended, begun = own_ca, threading.Event(), list[None]()

    def work(*_: object) -> Verified:
        begun.append(None)
        ended.wait(60)
        return Verified(k=0, done=False, links=0, records=0, purged=0, tail_links=0, problems=())

    monkeypatch.setattr(SqlAuditLog, "verify", lambda log, *_: log.read(work))
    verify = ca.channel(AUDITOR).unary_unary(VERIFY)
    good = ca.client("operators/operator/good")
    try:
        for _ in range(READERS + 1):
            with pytest.raises(grpc.RpcError) as late:
                verify(b"", timeout=GIVEN_UP)
            assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert good.certificates.sign("server", server_csr(f"{unique('web')}.example.test")).serial
        assert len(begun) == 1
    finally:
        ended.set()


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
