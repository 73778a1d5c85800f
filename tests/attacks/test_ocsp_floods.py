"""OCSP without authentication: repeated questions cost little, floods of one address are cut, nonsense leaves no traceback."""

import asyncio
import http.client
import itertools
import logging
import socket
from collections import Counter
from collections.abc import Iterator

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from keyreeve.keys import make_key
from keyreeve.values import CrlReason, SignedCertificate
from keyreeve_ca.http_endpoints import STATUSES_AT_ONCE
from keyreeve_chassis.plain_http.bounded import REQUEST_INTERVAL, BoundedListener, Bounds
from keyreeve_chassis.settings.sections import HttpSettings
from support.running_ca import RunningCa, running, server_csr, unique
from support.waiting import wait_for, wait_until

CLIENTS = 40
SHA1_OID, UNKNOWN_OID = bytes.fromhex("06052b0e03021a"), bytes.fromhex("06052b0e03027f")


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def ca(request: pytest.FixtureRequest) -> Iterator[RunningCa]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    http = {"http": HttpSettings(port=port), "http_url": f"http://127.0.0.1:{port}"}
    with running(request.param, request, workers=1, **http) as made:
        yield made


@pytest.fixture
def signed(ca: RunningCa) -> SignedCertificate:
    return ca.client().certificates.sign("server", server_csr(f"{unique('web')}.example.test", key=make_key()))


def request_for(signed: SignedCertificate) -> bytes:
    leaf, issuer = (x509.load_der_x509_certificate(der) for der in (signed.certificate_der, signed.chain_der[0]))
    builder = ocsp.OCSPRequestBuilder().add_certificate(leaf, issuer, hashes.SHA1())  # RFC 5019
    return builder.build().public_bytes(Encoding.DER)


def posted(connection: http.client.HTTPConnection, body: bytes) -> tuple[int, bytes]:
    connection.request("POST", "/ocsp", body, {"Content-Type": "application/ocsp-request"})
    answer = connection.getresponse()
    return answer.status, answer.read()


def connected(ca: RunningCa) -> http.client.HTTPConnection:
    return http.client.HTTPConnection("127.0.0.1", ca.coordinator.http_port, timeout=20)


def test_a_repeated_question_is_answered_with_the_same_bytes_until_the_certificate_is_revoked(
    ca: RunningCa, signed: SignedCertificate
) -> None:
    asked, connection = request_for(signed), connected(ca)
    answers = {posted(connection, asked) for _ in range(5)}
    assert len(answers) <= 2, "one answer for some seconds"
    ca.client().certificates.revoke(signed.serial, CrlReason.SUPERSEDED)

    def status() -> ocsp.OCSPCertStatus:
        return ocsp.load_der_ocsp_response(posted(connection, asked)[1]).certificate_status

    wait_for("the revocation is answered", lambda: status() is ocsp.OCSPCertStatus.REVOKED, 5.0)
    connection.close()


def test_an_unknown_hash_algorithm_is_refused_without_a_traceback(
    ca: RunningCa, signed: SignedCertificate, caplog: pytest.LogCaptureFixture
) -> None:
    connection = connected(ca)
    with caplog.at_level(logging.INFO):
        code, body = posted(connection, request_for(signed).replace(SHA1_OID, UNKNOWN_OID))
    assert code == 200
    assert ocsp.load_der_ocsp_response(body).response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL
    assert not [record for record in caplog.records if record.exc_info]
    connection.close()


@pytest.mark.sqlite_first
def test_a_flood_of_one_address_is_refused_beyond_its_share(ca: RunningCa, signed: SignedCertificate) -> None:
    connection, asked, seen = connected(ca), request_for(signed), Counter[int]()
    while not seen[429] and sum(seen.values()) < 20 * STATUSES_AT_ONCE:
        seen[posted(connection, asked)[0]] += 1
    assert seen[429]
    assert seen[200] >= STATUSES_AT_ONCE / 2
    assert set(seen) == {200, 429}
    connection.close()


async def test_requests_that_come_all_together_leave_the_event_loop_to_other_work_between_two_of_them() -> None:
    loop, turns, taken = asyncio.get_running_loop(), itertools.count(), list[int]()

    class Taking(asyncio.Protocol):
        def data_received(self, _: bytes) -> None:
            taken.append(next(turns))

    def count() -> None:  # once in each turn of the loop
        next(turns)
        if len(taken) < CLIENTS:
            loop.call_soon(count)

    listener = BoundedListener(Bounds(connections=100, per_address=100, idle=60, stall=60), Taking)
    port = await listener.listen("127.0.0.1", 0)
    writers = [(await asyncio.open_connection("127.0.0.1", port))[1] for _ in range(CLIENTS)]
    await wait_until("all are connected", lambda: listener.connections == CLIENTS, 20)
    for writer in writers:
        writer.write(b"GET / HTTP/1.1\r\n")
    began = loop.time()
    count()
    await wait_until("all are served", lambda: len(taken) == CLIENTS, 20)
    assert loop.time() - began >= (CLIENTS - 1) * REQUEST_INTERVAL
    assert all(later - earlier >= 2 for earlier, later in itertools.pairwise(taken))
    for writer in writers:
        writer.close()
    await listener.stop()
