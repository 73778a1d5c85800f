"""Every method of seven CA services times every role, against an independent access table.

Calls carry bytes that are no message: who may call is told that they cannot be read, and who may not is refused before.
"""

from collections.abc import Iterator

import grpc
import pytest

from keyreeve import Name
from keyreeve.ca.v1 import (
    authority_service_pb2,
    certificate_service_pb2,
    issuance_service_pb2,
    operator_service_pb2,
    operator_session_service_pb2,
    profile_service_pb2,
    trust_service_pb2,
)
from keyreeve.identity import Role
from keyreeve.keys import make_csr, make_key, save_key
from keyreeve.status import error_from_rpc
from keyreeve.values import AuthorityKind, Hierarchy, to_pem
from keyreeve_ca.authorities import servicer as authority_servicer
from keyreeve_ca.halt import servicer as issuance_servicer
from keyreeve_ca.issuance import servicer as certificate_servicer
from keyreeve_ca.operators import servicer as operator_servicer
from keyreeve_ca.profiles import servicer as profile_servicer
from keyreeve_ca.sessions import servicer as session_servicer
from keyreeve_ca.trust import servicer as trust_servicer
from support import contract
from support.access_matrix import NO_MESSAGE, PATHS
from support.running_ca import ADMIN, MEMBERSHIP, RunningCa, unique

EVERYONE = "ca membership credentials member admin operator auditor workload"
OPERATORS = "admin operator auditor"
SERVICES = "ca membership credentials"
EXPECTED = {
    "AuthorityService/CreateAuthority": "admin membership",
    "AuthorityService/GetAuthority": EVERYONE,
    "AuthorityService/ListAuthorities": EVERYONE,
    "AuthorityService/IntroduceAuthority": "membership",
    "AuthorityService/ActivateAuthority": "admin membership",
    "AuthorityService/RetireAuthority": "admin membership",
    "AuthorityService/RevokeAuthority": "admin membership",
    "AuthorityService/DestroyAuthority": "membership",
    "AuthorityService/ExportAuthority": EVERYONE,
    "AuthorityService/GetBundle": f"{EVERYONE} gateway",
    "AuthorityService/WatchBundle": f"{EVERYONE} gateway",
    "CertificateService/SignCertificate": f"admin operator workload member {SERVICES}",
    "CertificateService/SignCertificates": f"admin operator workload member {SERVICES}",
    "CertificateService/RenewCertificate": f"{EVERYONE} gateway",
    "CertificateService/GetCertificate": EVERYONE,
    "CertificateService/ListCertificates": f"{OPERATORS} workload {SERVICES}",
    "CertificateService/RevokeCertificate": EVERYONE,
    "CertificateService/RevokeCertificates": "admin membership",
    "CertificateService/GetRevocationList": EVERYONE,
    "CertificateService/WatchRevokedCertificates": "admin workload",
    "CertificateService/BlockKey": "admin operator",
    "CertificateService/ListBlockedKeys": f"{OPERATORS} {SERVICES}",
    "CertificateService/UnblockKey": "admin",
    "ProfileService/CreateProfile": "admin",
    "ProfileService/GetProfile": EVERYONE,
    "ProfileService/ListProfiles": EVERYONE,
    "ProfileService/UpdateProfile": "admin",
    "ProfileService/SimulateProfile": OPERATORS,
    "IssuanceService/HaltIssuance": "admin operator",
    "IssuanceService/ResumeIssuance": "admin",
    "IssuanceService/GetIssuanceState": f"{OPERATORS} {SERVICES}",
    "OperatorService/InviteOperator": "admin",
    "OperatorService/ApproveOperatorChange": "admin",
    "OperatorService/GetOperator": f"{OPERATORS} {SERVICES}",
    "OperatorService/ListOperators": f"{OPERATORS} {SERVICES}",
    "OperatorService/UpdateOperator": "admin",
    "OperatorService/RemoveOperator": "admin",
    "OperatorService/RegisterSshKey": "admin",
    "OperatorService/ListSshKeys": OPERATORS,
    "OperatorService/RemoveSshKey": OPERATORS,
    "OperatorSessionService/OpenSession": "gateway",
    "OperatorSessionService/RenewSession": "",
    "OperatorSessionService/CloseSession": OPERATORS,
    "OperatorSessionService/ListSessions": OPERATORS,
    "TrustService/WatchCallers": f"{SERVICES} gateway",
    "TrustService/SetMembers": "membership",
}
ROLES = {role.name.lower(): role for role in Role}
SERVICERS = {
    authority_service_pb2: authority_servicer,
    certificate_service_pb2: certificate_servicer,
    issuance_service_pb2: issuance_servicer,
    operator_service_pb2: operator_servicer,
    operator_session_service_pb2: session_servicer,
    profile_service_pb2: profile_servicer,
    trust_service_pb2: trust_servicer,
}
METHODS = {
    f"{service.name}/{method.name}": method
    for proto in SERVICERS
    for service in proto.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}


def call(channel: grpc.Channel, name: str) -> grpc.RpcError:
    """Call a method with bytes that are no message; answer how it failed."""
    path = f"/keyreeve.ca.v1.{name}"
    streams = METHODS[name].server_streaming
    answer = channel.unary_stream(path) if streams else channel.unary_unary(path)
    with pytest.raises(grpc.RpcError) as caught:
        list(answer(NO_MESSAGE, timeout=20))
    return caught.value


def test_every_method_of_the_contract_has_an_expectation_here_and_a_row_there():
    assert set(EXPECTED) == set(METHODS)
    rows = {name: row for servicer in SERVICERS.values() for name, row in servicer.ACCESS.items()}
    assert set(rows) == {f"/keyreeve.ca.v1.{name}" for name in METHODS}
    for name, roles in EXPECTED.items():
        assert rows[f"/keyreeve.ca.v1.{name}"].roles == {ROLES[role] for role in roles.split()}, name


def test_a_gateway_alone_opens_sessions_and_does_nothing_else_for_anybody():
    alone = {name.rpartition("/")[2] for name, row in contract.ROWS.items() if Role.GATEWAY in row.roles}
    of_itself = {"GetBundle", "WatchBundle", "RenewCertificate", "WatchCallers", "GetCheckpoint"}
    assert alone == {"OpenSession", *of_itself}
    through = {name.rpartition("/")[2] for name, row in contract.ROWS.items() if row.on_behalf}
    assert through == {"RenewSession", "CloseSession", "ListSessions", "AppendVerbRecord", "WatchOperation"}


@pytest.mark.parametrize("role", Role, ids=lambda role: role.value)
def test_each_role_gets_through_to_what_it_may_call_and_to_nothing_else(ca: RunningCa, role: Role):
    channel = ca.channel(PATHS[role], worker=1)
    for name, roles in EXPECTED.items():
        told = error_from_rpc(call(channel, name), "ca")
        if role.name.lower() in roles.split():
            assert told.reason == "FIELD_INVALID", f"{role} {name}: {told}"
        else:
            assert told.reason == "ACCESS_DENIED", f"{role} {name}: {told}"
            assert told.metadata["allowed"] == ", ".join(sorted(ROLES[r].value for r in roles.split()))


def outsiders(ca: RunningCa) -> Iterator[tuple[str, grpc.ChannelCredentials]]:
    """Credentials that are none of the control hierarchy's."""
    roots = ca.context(ADMIN).bundle.read_bytes()
    yield "no certificate", grpc.ssl_channel_credentials(roots)
    key = make_key()
    estate = ca.client().certificates.sign("client", make_csr(key, [Name.dns("ann.example.test")]))
    path = ca.directory / unique("key")
    save_key(path, key)
    yield "estate", grpc.ssl_channel_credentials(roots, path.read_bytes(), estate.pem().encode())
    array = unique("array")
    authorities = ca.client(MEMBERSHIP).authorities
    authorities.create(
        array, hierarchy=Hierarchy.STANDALONE, kind=AuthorityKind.ROOT, owner="appliances/x", common_name=array
    )
    authorities.activate(array)
    peer = ca.client(MEMBERSHIP).certificates.sign(
        "array-peer", make_csr(key, [Name.dns("one.example.test")]), authority=array
    )
    yield "array", grpc.ssl_channel_credentials(roots, path.read_bytes(), to_pem([peer.certificate_der]).encode())


def test_who_has_no_certificate_of_the_control_hierarchy_gets_no_answer_from_any_method(ca: RunningCa):
    for kind, credentials in outsiders(ca):
        with grpc.secure_channel(ca.context(ADMIN).endpoint("ca"), credentials, options=ca.pinned) as channel:
            for name in EXPECTED:
                failure = call(channel, name)
                told = error_from_rpc(failure, "ca")
                assert failure.code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNAUTHENTICATED}, (
                    f"{kind} {name}"
                )
                assert told.reason in {"SERVICE_UNREACHABLE", "PEER_CERTIFICATE_MISSING", "PEER_ISSUER_UNKNOWN"}


def test_an_expired_caller_is_refused_by_every_method_on_its_open_connection(own_ca: RunningCa):
    channel = own_ca.channel(ADMIN)
    assert error_from_rpc(call(channel, "AuthorityService/GetAuthority"), "ca").reason == "FIELD_INVALID"
    own_ca.clock.offset = 12 * 3600
    for name in EXPECTED:
        assert error_from_rpc(call(channel, name), "ca").reason == "PEER_CERTIFICATE_EXPIRED", name
    own_ca.clock.offset = -3600
    for name in EXPECTED:
        assert error_from_rpc(call(channel, name), "ca").reason == "PEER_CERTIFICATE_NOT_YET_VALID", name


def test_a_method_that_does_not_exist_is_unknown_to_every_caller(ca: RunningCa):
    for name in ("CertificateService/signCertificate", "CertificateService/", "KeyService/ExportKey", ""):
        with pytest.raises(grpc.RpcError) as caught:
            ca.channel().unary_unary(f"/keyreeve.ca.v1.{name}")(b"", timeout=20)
        assert error_from_rpc(caught.value, "ca").reason == "METHOD_UNKNOWN"
