"""One SDK call for each RPC of the contract, with a response."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from keyreeve import Name, SignItem
from keyreeve.audit.log import Checkpoint
from keyreeve.audit.record import Record
from keyreeve.audit.v1 import audit_service_pb2 as audit_pb
from keyreeve.ca.v1 import authority_service_pb2 as authority_pb
from keyreeve.ca.v1 import certificate_service_pb2 as certificate_pb
from keyreeve.ca.v1 import enrollment_service_pb2 as enrollment_pb
from keyreeve.ca.v1 import issuance_service_pb2 as issuance_pb
from keyreeve.ca.v1 import operator_service_pb2 as operator_pb
from keyreeve.ca.v1 import operator_session_service_pb2 as session_pb
from keyreeve.ca.v1 import profile_service_pb2 as profile_pb
from keyreeve.ca.v1 import trust_service_pb2 as trust_pb
from keyreeve.caller_values import MemberRecord
from keyreeve.operations.v1 import operation_service_pb2 as operation_pb
from keyreeve.session_values import CertificateProof
from keyreeve.values import (
    AuthorityKind,
    CrlReason,
    Hierarchy,
    KeyType,
    Line,
    MemberState,
    OperatorRole,
    Order,
)
from support.fake_ca_server import Answer

SERIAL = "4" + "0" * 30 + "1"
BEGIN = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
END = BEGIN + timedelta(days=30)


def stamp(time: datetime) -> Timestamp:
    """The message of a time."""
    message = Timestamp()
    message.FromDatetime(time)
    return message


AUTHORITY = authority_pb.Authority(
    name="authorities/estate-2",
    hierarchy=authority_pb.HIERARCHY_ESTATE,
    kind=authority_pb.AUTHORITY_KIND_INTERMEDIATE,
    owner="",
    issuer="authorities/estate-root",
    common_name="Estate issuing 2",
    key_type=authority_pb.AUTHORITY_KEY_TYPE_P384,
    lifetime=Duration(seconds=3600),
    permitted_dns_suffixes=["example.test"],
    state=authority_pb.AUTHORITY_STATE_PENDING,
    certificate_der=b"der",
    certificate_sha256=b"digest",
    not_before_time=stamp(BEGIN),
    not_after_time=stamp(END),
    create_time=stamp(BEGIN),
)
CERTIFICATE = certificate_pb.Certificate(
    name=f"certificates/{SERIAL}",
    authority="authorities/estate-2",
    profile="profiles/server",
    profile_version=3,
    identity="web.example.test",
    requester="spiffe://example.test/operators/admin/ann",
    request_id="00000000-0000-7000-8000-000000000000",
    not_before_time=stamp(BEGIN),
    not_after_time=stamp(END),
    issue_time=stamp(BEGIN),
    state=certificate_pb.CERTIFICATE_STATE_VALID,
    spki_sha256=b"spki",
    certificate_der=b"leaf",
)
SIGNED = certificate_pb.SignCertificateResponse(
    certificate=CERTIFICATE, chain_der=[b"issuing"], renew_time=stamp(BEGIN + timedelta(days=20))
)
PROFILE = profile_pb.Profile(
    name="profiles/server", version=3, document="{}", sha256=b"hash", create_time=stamp(BEGIN), creator="me"
)
OPERATOR = operator_pb.Operator(
    name="operators/bea",
    person_uid="uid",
    role=operator_pb.OPERATOR_ROLE_AUDITOR,
    identity="spiffe://example.test/operators/auditor/bea",
    create_time=stamp(BEGIN),
    invite_time=stamp(BEGIN),
    inviter="me",
    renew_until_time=stamp(END),
)
SSH_KEY = operator_pb.SshKey(
    operator="operators/bea",
    key=operator_pb.OperatorKey(public_key="ssh-ed25519 AAAA", fingerprint="SHA256:x", create_time=stamp(BEGIN)),
)
SESSION = session_pb.OperatorSession(
    name="sessions/s1",
    identity="spiffe://example.test/operators/auditor/bea",
    person_uid="uid",
    gateway="spiffe://example.test/services/gateway/one",
    method=session_pb.SESSION_METHOD_CERTIFICATE,
    open_time=stamp(BEGIN),
    end_time=stamp(END),
)
HALTED = issuance_pb.IssuanceState(
    status=issuance_pb.ISSUANCE_STATUS_HALTED, halt_time=stamp(BEGIN), halter="me", halt_reason="a key may be out"
)
BLOCKED_KEY = certificate_pb.BlockedKey(
    name=f"blockedKeys/{bytes(32).hex()}", reason="found in a repository", create_time=stamp(BEGIN), creator="me"
)
OPERATION = operation_pb.Operation(
    name="operations/1",
    method="/keyreeve.ca.v1.CertificateService/RevokeCertificates",
    state=operation_pb.OPERATION_STATE_SUCCEEDED,
    create_time=stamp(BEGIN),
    update_time=stamp(BEGIN),
)
BUNDLE = authority_pb.Bundle(
    name="bundles/estate", trust_domain="example.test", roots_der=[b"root"], digest=b"digest", trust_root=b"{}"
)

TOKEN = enrollment_pb.EnrollmentToken(
    name="enrollmentTokens/" + "ab" * 16,
    identity="spiffe://example.test/members/web.example.test",
    creator="spiffe://example.test/operators/admin/ann",
    state=enrollment_pb.ENROLLMENT_TOKEN_STATE_BOUND,
    create_time=stamp(BEGIN),
    expire_time=stamp(END),
    bind_time=stamp(BEGIN),
    certificate=f"certificates/{SERIAL}",
)


RECORD = Record(
    "", "", "", "", "ipv4:192.0.2.1", "", 1, "", "", (), "UNAUTHENTICATED", "PEER_CERTIFICATE_MISSING", (), 17
)
CHECKPOINT = audit_pb.SignedCheckpoint(
    body=Checkpoint(1, bytes(32), 1, 2, 0, 0, bytes(32), ()).encode(), signature=b"signature", spki=b"spki"
)


@dataclass(frozen=True)
class Example:
    """How a client of either form calls an RPC, and the response of the fake."""

    call: Callable[[Any], Any]
    answer: Answer


EXAMPLES: dict[str, Example] = {
    "CreateAuthority": Example(
        lambda client: client.authorities.create(
            "estate-2",
            hierarchy=Hierarchy.ESTATE,
            kind=AuthorityKind.INTERMEDIATE,
            issuer="estate-root",
            common_name="Estate issuing 2",
            key_type=KeyType.P384,
            lifetime=timedelta(hours=1),
            permitted_dns_suffixes=["example.test"],
        ),
        AUTHORITY,
    ),
    "GetAuthority": Example(lambda client: client.authorities.get("estate-2"), AUTHORITY),
    "ListAuthorities": Example(
        lambda client: client.authorities.list(), authority_pb.ListAuthoritiesResponse(authorities=[AUTHORITY])
    ),
    "IntroduceAuthority": Example(
        lambda client: client.authorities.introduce("array-2", order=Order(7, 2, 3, "nonce")), AUTHORITY
    ),
    "DestroyAuthority": Example(
        lambda client: client.authorities.destroy("array-1", order=Order(7, 3, 3, "nonce"), accept_unexpired=True),
        AUTHORITY,
    ),
    "SetMembers": Example(
        lambda client: client.trust.set_members(
            "one",
            [MemberRecord("uid-1", "spiffe://example.test/members/a", "arrays/one", MemberState.MEMBER, primary=True)],
            order=Order(7, 1, 3, "nonce"),
        ),
        trust_pb.SetMembersResponse(),
    ),
    "ActivateAuthority": Example(lambda client: client.authorities.activate("estate-2"), AUTHORITY),
    "RetireAuthority": Example(lambda client: client.authorities.retire("authorities/estate-2"), AUTHORITY),
    "RevokeAuthority": Example(lambda client: client.authorities.revoke("estate-2", CrlReason.SUPERSEDED), AUTHORITY),
    "ExportAuthority": Example(
        lambda client: client.authorities.export("estate-2"),
        authority_pb.ExportAuthorityResponse(chain_der=[b"issuing", b"root"]),
    ),
    "GetBundle": Example(lambda client: client.authorities.bundle(Line.ESTATE), BUNDLE),
    "SignCertificate": Example(
        lambda client: client.certificates.sign(
            "server", b"csr", names=[Name.dns("web.example.test")], lifetime=timedelta(days=1), authority="estate-2"
        ),
        SIGNED,
    ),
    "SignCertificates": Example(
        lambda client: client.certificates.sign_many([SignItem("server", b"csr")]),
        certificate_pb.SignCertificatesResponse(
            outcomes=[certificate_pb.SignCertificateOutcome(error=certificate_pb.ItemError(reason="KEY_WEAK"))]
        ),
    ),
    "RenewCertificate": Example(lambda client: client.certificates.renew(SERIAL, b"csr"), SIGNED),
    "CreateEnrollmentToken": Example(
        lambda client: client.tokens.create(TOKEN.identity, lifetime=timedelta(hours=2), address="ca.example.test:1"),
        enrollment_pb.CreateEnrollmentTokenResponse(enrollment_token=TOKEN, text="krt1_secret"),
    ),
    "RevokeEnrollmentToken": Example(lambda client: client.tokens.revoke("ab" * 16), TOKEN),
    "ListEnrollmentTokens": Example(
        lambda client: client.tokens.list(), enrollment_pb.ListEnrollmentTokensResponse(enrollment_tokens=[TOKEN])
    ),
    "GetCertificate": Example(lambda client: client.certificates.get(SERIAL), CERTIFICATE),
    "RevokeCertificate": Example(lambda client: client.certificates.revoke(SERIAL, CrlReason.SUPERSEDED), CERTIFICATE),
    "BlockKey": Example(lambda client: client.certificates.block_key(bytes(32), "found in a repository"), BLOCKED_KEY),
    "ListBlockedKeys": Example(
        lambda client: client.certificates.blocked_keys(),
        certificate_pb.ListBlockedKeysResponse(blocked_keys=[BLOCKED_KEY]),
    ),
    "WatchRevokedCertificates": Example(
        lambda client: client.certificates.watch_revoked(1, 7),
        [certificate_pb.RevokedCertificatesUpdate(restore_generation=1, seq=9, certificates=[CERTIFICATE])],
    ),
    "UnblockKey": Example(lambda client: client.certificates.unblock_key(bytes(32)), BLOCKED_KEY),
    "ApproveOperatorChange": Example(
        lambda client: client.operators.approve("bea", OperatorRole.ADMIN),
        operator_pb.OperatorApproval(operator_id="bea", approver="me", expire_time=stamp(END)),
    ),
    "RevokeCertificates": Example(
        lambda client: client.certificates.revoke_many(CrlReason.SUPERSEDED, profile="server"), OPERATION
    ),
    "GetOperation": Example(lambda client: client.operations.get("1"), OPERATION),
    "CancelOperation": Example(lambda client: client.operations.cancel("1"), OPERATION),
    "ListOperations": Example(
        lambda client: client.operations.list(), operation_pb.ListOperationsResponse(operations=[OPERATION])
    ),
    "WatchOperation": Example(lambda client: client.operations.watch("1"), [OPERATION]),
    "GetRevocationList": Example(
        lambda client: client.certificates.revocation_list("estate-2", 3),
        certificate_pb.RevocationList(
            name="authorities/estate-2/revocationLists/3",
            number=7,
            this_update_time=stamp(BEGIN),
            next_update_time=stamp(END),
            entries=2,
            crl_der=b"crl",
        ),
    ),
    # A stream without an end, as WatchBundle.
    "WatchCallers": Example(
        lambda client: client.trust.watch_callers(),
        [
            trust_pb.CallersUpdate(restore_generation=1, seq=2, head_seq=4, time=stamp(BEGIN)),
            trust_pb.CallersUpdate(
                restore_generation=1,
                after_seq=2,
                seq=4,
                head_seq=4,
                time=stamp(BEGIN),
                authorities=[
                    trust_pb.IssuingAuthority(
                        name="authorities/control-issuing-1",
                        state=authority_pb.AUTHORITY_STATE_RETIRING,
                        certificate_der=b"ca",
                    )
                ],
                operators=[
                    trust_pb.OperatorRecord(
                        name="operators/ann",
                        person_uid="uid-1",
                        role=operator_pb.OPERATOR_ROLE_ADMIN,
                        since_time=stamp(BEGIN),
                        removed=True,
                    )
                ],
                revoked=[trust_pb.RevokedCertificate(serial=b"@" * 16, not_after_time=stamp(END))],
                members=[
                    trust_pb.MemberRecord(
                        member_uid="uid-2",
                        identity="spiffe://example.test/members/b",
                        array="arrays/one",
                        state=trust_pb.MEMBER_STATE_JOINING,
                    )
                ],
                signature=b"signature",
                signer_der=[b"leaf", b"issuer"],
            ),
        ],
    ),
    "ListCertificates": Example(
        lambda client: client.certificates.list(), certificate_pb.ListCertificatesResponse(certificates=[CERTIFICATE])
    ),
    "CreateProfile": Example(lambda client: client.profiles.create("server", "{}"), PROFILE),
    "GetProfile": Example(lambda client: client.profiles.get("server", 3), PROFILE),
    "ListProfiles": Example(lambda client: client.profiles.list(), profile_pb.ListProfilesResponse(profiles=[PROFILE])),
    "UpdateProfile": Example(lambda client: client.profiles.update("server", "{}", version=3), PROFILE),
    "SimulateProfile": Example(
        lambda client: client.profiles.simulate("server", "{}"),
        profile_pb.SimulateProfileResponse(
            examined=2,
            same=1,
            different=1,
            issuances=[
                profile_pb.SimulatedIssuance(
                    certificate=f"certificates/{SERIAL}", outcome=profile_pb.SIMULATED_OUTCOME_DIFFERENT, message="EKU"
                )
            ],
        ),
    ),
    "InviteOperator": Example(
        lambda client: client.operators.invite("bea", OperatorRole.AUDITOR),
        operator_pb.InviteOperatorResponse(operator=OPERATOR, token="t", token_expire_time=stamp(END)),
    ),
    "GetOperator": Example(lambda client: client.operators.get("bea"), OPERATOR),
    "ListOperators": Example(
        lambda client: client.operators.list(), operator_pb.ListOperatorsResponse(operators=[OPERATOR])
    ),
    "UpdateOperator": Example(
        lambda client: client.operators.update("bea", OperatorRole.ADMIN),
        operator_pb.UpdateOperatorResponse(operator=OPERATOR, token="t", token_expire_time=stamp(END)),
    ),
    "RemoveOperator": Example(lambda client: client.operators.remove("operators/bea"), OPERATOR),
    "RegisterSshKey": Example(lambda client: client.operators.register_ssh_key("bea", "ssh-ed25519 AAAA"), SSH_KEY),
    "ListSshKeys": Example(
        lambda client: client.operators.ssh_keys("bea"), operator_pb.ListSshKeysResponse(keys=[SSH_KEY])
    ),
    "RemoveSshKey": Example(lambda client: client.operators.remove_ssh_key("bea", "SHA256:x"), SSH_KEY),
    "OpenSession": Example(
        lambda client: client.sessions.open(CertificateProof(b"certificate", bytes(32), 1_900_000_000, b"signature")),
        session_pb.OpenSessionResponse(session=SESSION, ticket=b"ticket", ticket_expire_time=stamp(END)),
    ),
    "RenewSession": Example(
        lambda client: client.sessions.renew(),
        session_pb.RenewSessionResponse(ticket=b"ticket", ticket_expire_time=stamp(END)),
    ),
    "CloseSession": Example(lambda client: client.sessions.close("s1"), SESSION),
    "ListSessions": Example(lambda client: client.sessions.list(), session_pb.ListSessionsResponse(sessions=[SESSION])),
    "HaltIssuance": Example(lambda client: client.issuance.halt("a key may be out"), HALTED),
    "ResumeIssuance": Example(lambda client: client.issuance.resume("it was not"), HALTED),
    "GetIssuanceState": Example(lambda client: client.issuance.state(), HALTED),
    "ListAuditRecords": Example(
        lambda client: client.audit.list(),
        audit_pb.ListAuditRecordsResponse(
            records=[audit_pb.AuditRecord(record=RECORD.encode(), commit_time=stamp(BEGIN), call_time=stamp(BEGIN))],
            at_end=True,
        ),
    ),
    "ListAuditEntries": Example(
        lambda client: client.audit.segments(),
        audit_pb.ListAuditEntriesResponse(
            entries=[
                audit_pb.AuditEntry(registration=audit_pb.ChainRegistration(chain=bytes(16), writer="ca")),
                audit_pb.AuditEntry(link=audit_pb.ChainLink(chain=bytes(16), n=1)),
                audit_pb.AuditEntry(checkpoint=CHECKPOINT),
            ]
        ),
    ),
    "VerifyAuditChain": Example(
        lambda client: client.audit.verify(), audit_pb.VerifyAuditChainResponse(checkpoint=1, done=True)
    ),
    "GetCheckpoint": Example(lambda client: client.audit.checkpoint(), CHECKPOINT),
    "AppendVerbRecord": Example(
        lambda client: client.audit.append_verb_record("array join", "spiffe://example.test/operators/admin/ann"),
        audit_pb.AppendVerbRecordResponse(),
    ),
    # The stream has no end of its own: take one bundle and leave.
    "WatchBundle": Example(lambda client: client.authorities.watch_bundle("estate"), [BUNDLE]),
}
