"""A revoked caller on every method, and the freshness that each method requires."""

from dataclasses import replace

import grpc
import pytest
from cryptography import x509

from keyreeve.identity import ALL_ROLES
from keyreeve.keys import make_key
from keyreeve.status import error_from_rpc
from keyreeve.values import CrlReason
from keyreeve_chassis.guard.access import Freshness
from keyreeve_chassis.rpc.health import Health, health_service
from keyreeve_chassis.rpc.reflection import reflection_services
from support import contract
from support.access_matrix import NO_MESSAGE
from support.echo_service import ECHO, EchoRequest, EchoResponse, echo_service
from support.fake_ca_server import METHODS
from support.running import Harness, refused, serving
from support.running_ca import RunningCa, unique
from support.waiting import wait_for

TOLERANT = ("HaltIssuance", "Get", "List", "Watch", "Export", "Simulate", "Verify", "Renew", "Check", "Server")
EXEMPT = {
    "/keyreeve.ca.v1.AuthorityService/GetBundle",
    "/keyreeve.ca.v1.AuthorityService/WatchBundle",
    "/keyreeve.ca.v1.CertificateService/GetRevocationList",
    "/keyreeve.ca.v1.TrustService/WatchCallers",
    "/keyreeve.audit.v1.AuditService/GetCheckpoint",
    "/keyreeve.ca.v1.EnrollmentService/ExchangeServiceAccountToken",
    "/keyreeve.ca.v1.EnrollmentService/RenewExpired",
    contract.ENROLL,  # enrollees have no certificate that could have been revoked
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/List",
    "/grpc.health.v1.Health/Watch",
}
STRICT = {
    "/keyreeve.audit.v1.AuditService/ListAuditEntries",
    "/keyreeve.audit.v1.AuditService/ListAuditRecords",
}
"""What everybody did is told like a secret."""
ROWS = contract.ROWS | health_service(Health(), roles=ALL_ROLES).rows
for _service in reflection_services(()):
    ROWS = ROWS | _service.rows


@pytest.mark.parametrize("name", sorted(ROWS))
def test_what_reads_or_renews_is_tolerant_the_cure_is_exempt_and_the_rest_is_strict(name: str) -> None:
    method = name.rpartition("/")[2]
    if name in EXEMPT:
        assert ROWS[name].freshness is Freshness.EXEMPT
    else:
        tolerant = method.startswith(TOLERANT) and name not in STRICT
        wanted = Freshness.TOLERANT if tolerant else Freshness.STRICT
        assert ROWS[name].freshness is wanted


def test_a_revoked_admin_is_refused_by_every_method(ca: RunningCa) -> None:
    context = ca.new_context(f"operators/admin/{unique('eve')}", key=make_key())
    leaf = x509.load_pem_x509_certificate(context.certificate.read_bytes())
    ca.client().certificates.revoke(f"{leaf.serial_number:032x}", CrlReason.PRIVILEGE_WITHDRAWN)
    channel = ca.channel(context=context)

    def told(name: str) -> str:
        method = METHODS[name]
        make = channel.unary_stream if method.server_streaming else channel.unary_unary
        if method.client_streaming:
            make = channel.stream_stream
        sent = iter([NO_MESSAGE]) if method.client_streaming else NO_MESSAGE
        with pytest.raises(grpc.RpcError) as caught:
            list(make(name)(sent, timeout=20))
        return error_from_rpc(caught.value, "ca").reason

    wait_for("the worker to know", lambda: told(next(iter(METHODS))) == "PEER_CERTIFICATE_REVOKED", 1)
    assert {name: told(name) for name in METHODS} == dict.fromkeys(METHODS, "PEER_CERTIFICATE_REVOKED")


@pytest.mark.parametrize(
    ("age", "refused_for"),
    [
        (5, set()),
        (6, {Freshness.STRICT}),
        (601, {Freshness.STRICT, Freshness.TOLERANT}),
        (10**9, {Freshness.STRICT, Freshness.TOLERANT}),
    ],
)
async def test_a_server_that_hears_nothing_refuses_what_matters(age: float, refused_for: set[Freshness]) -> None:
    for wanted in Freshness:
        service = echo_service()
        rows = {name: replace(row, freshness=wanted) for name, row in service.rows.items()}
        async with serving([replace(service, rows=rows)]) as server:
            server.revocations.seconds = age
            async with server.channel(server.hierarchies.control.person("operators/admin/ann")) as channel:
                await _ask(server, channel, refused_=wanted in refused_for)


async def _ask(server: Harness, channel: grpc.aio.Channel, *, refused_: bool) -> None:
    call = channel.unary_unary(ECHO, EchoRequest.SerializeToString, EchoResponse.FromString)
    if refused_:
        told = await refused(call(EchoRequest(text="x"), timeout=20))
        assert (told.code, told.reason) == (grpc.StatusCode.UNAVAILABLE, "REVOCATIONS_STALE")
        server.revocations.seconds = 0
    assert (await call(EchoRequest(text="x"), timeout=20)).text == "x"
