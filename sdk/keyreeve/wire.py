"""Translation between protobuf messages and values.

No other module of the SDK than the clients sees messages.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from cryptography import x509
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from keyreeve import caller_values, errors, token_values, values
from keyreeve.ca.v1 import authority_service_pb2 as authority_pb
from keyreeve.ca.v1 import certificate_service_pb2 as certificate_pb
from keyreeve.ca.v1 import crl_reason_pb2 as crl_reason_pb
from keyreeve.ca.v1 import enrollment_service_pb2 as enrollment_pb
from keyreeve.ca.v1 import issuance_service_pb2 as issuance_pb
from keyreeve.ca.v1 import operator_service_pb2 as operator_pb
from keyreeve.ca.v1 import profile_service_pb2 as profile_pb
from keyreeve.ca.v1 import trust_service_pb2 as trust_pb
from keyreeve.errors import KeyreeveError
from keyreeve.wire_fields import from_number as from_number  # noqa: PLC0414 - every message has these
from keyreeve.wire_fields import resource_name as resource_name  # noqa: PLC0414
from keyreeve.wire_fields import to_number as to_number  # noqa: PLC0414
from keyreeve.wire_fields import to_timestamp as to_timestamp  # noqa: PLC0414

HIERARCHIES = {
    values.Hierarchy.CONTROL: authority_pb.HIERARCHY_CONTROL,
    values.Hierarchy.ESTATE: authority_pb.HIERARCHY_ESTATE,
    values.Hierarchy.STANDALONE: authority_pb.HIERARCHY_STANDALONE,
}
KINDS = {
    values.AuthorityKind.ROOT: authority_pb.AUTHORITY_KIND_ROOT,
    values.AuthorityKind.INTERMEDIATE: authority_pb.AUTHORITY_KIND_INTERMEDIATE,
}
AUTHORITY_STATES = {
    values.AuthorityState.PENDING: authority_pb.AUTHORITY_STATE_PENDING,
    values.AuthorityState.INTRODUCED: authority_pb.AUTHORITY_STATE_INTRODUCED,
    values.AuthorityState.ACTIVE: authority_pb.AUTHORITY_STATE_ACTIVE,
    values.AuthorityState.RETIRING: authority_pb.AUTHORITY_STATE_RETIRING,
    values.AuthorityState.RETIRED: authority_pb.AUTHORITY_STATE_RETIRED,
    values.AuthorityState.REVOKED: authority_pb.AUTHORITY_STATE_REVOKED,
}
MEMBER_STATES = {
    values.MemberState.STANDALONE: trust_pb.MEMBER_STATE_STANDALONE,
    values.MemberState.JOINING: trust_pb.MEMBER_STATE_JOINING,
    values.MemberState.MEMBER: trust_pb.MEMBER_STATE_MEMBER,
    values.MemberState.DETACHING: trust_pb.MEMBER_STATE_DETACHING,
    values.MemberState.QUARANTINED: trust_pb.MEMBER_STATE_QUARANTINED,
    values.MemberState.DETACHED: trust_pb.MEMBER_STATE_DETACHED,
}
AUTHORITY_KEY_TYPES = {
    values.KeyType.P256: authority_pb.AUTHORITY_KEY_TYPE_P256,
    values.KeyType.P384: authority_pb.AUTHORITY_KEY_TYPE_P384,
    values.KeyType.RSA3072: authority_pb.AUTHORITY_KEY_TYPE_RSA3072,
    values.KeyType.RSA4096: authority_pb.AUTHORITY_KEY_TYPE_RSA4096,
    values.KeyType.ED25519: authority_pb.AUTHORITY_KEY_TYPE_ED25519,
}
NAME_TYPES = {
    values.NameType.DNS: certificate_pb.NAME_TYPE_DNS,
    values.NameType.IP: certificate_pb.NAME_TYPE_IP,
    values.NameType.URI: certificate_pb.NAME_TYPE_URI,
    values.NameType.EMAIL: certificate_pb.NAME_TYPE_EMAIL,
}
CERTIFICATE_STATES = {
    values.CertificateState.VALID: certificate_pb.CERTIFICATE_STATE_VALID,
    values.CertificateState.EXPIRED: certificate_pb.CERTIFICATE_STATE_EXPIRED,
    values.CertificateState.REVOKED: certificate_pb.CERTIFICATE_STATE_REVOKED,
}
CRL_REASONS = {
    values.CrlReason.UNSPECIFIED: crl_reason_pb.CRL_REASON_UNSPECIFIED,
    values.CrlReason.KEY_COMPROMISE: crl_reason_pb.CRL_REASON_KEY_COMPROMISE,
    values.CrlReason.CA_COMPROMISE: crl_reason_pb.CRL_REASON_CA_COMPROMISE,
    values.CrlReason.AFFILIATION_CHANGED: crl_reason_pb.CRL_REASON_AFFILIATION_CHANGED,
    values.CrlReason.SUPERSEDED: crl_reason_pb.CRL_REASON_SUPERSEDED,
    values.CrlReason.CESSATION_OF_OPERATION: crl_reason_pb.CRL_REASON_CESSATION_OF_OPERATION,
    values.CrlReason.PRIVILEGE_WITHDRAWN: crl_reason_pb.CRL_REASON_PRIVILEGE_WITHDRAWN,
}
TOKEN_STATES = {
    token_values.TokenState.OPEN: enrollment_pb.ENROLLMENT_TOKEN_STATE_OPEN,
    token_values.TokenState.BOUND: enrollment_pb.ENROLLMENT_TOKEN_STATE_BOUND,
    token_values.TokenState.CLOSED: enrollment_pb.ENROLLMENT_TOKEN_STATE_CLOSED,
    token_values.TokenState.REVOKED: enrollment_pb.ENROLLMENT_TOKEN_STATE_REVOKED,
    token_values.TokenState.EXPIRED: enrollment_pb.ENROLLMENT_TOKEN_STATE_EXPIRED,
}
OUTCOMES = {
    values.SimulatedOutcome.SAME: profile_pb.SIMULATED_OUTCOME_SAME,
    values.SimulatedOutcome.DIFFERENT: profile_pb.SIMULATED_OUTCOME_DIFFERENT,
    values.SimulatedOutcome.REFUSED: profile_pb.SIMULATED_OUTCOME_REFUSED,
}
OPERATOR_ROLES = {
    values.OperatorRole.ADMIN: operator_pb.OPERATOR_ROLE_ADMIN,
    values.OperatorRole.OPERATOR: operator_pb.OPERATOR_ROLE_OPERATOR,
    values.OperatorRole.AUDITOR: operator_pb.OPERATOR_ROLE_AUDITOR,
}
ISSUANCE_STATUSES = {
    values.IssuanceStatus.ISSUING: issuance_pb.ISSUANCE_STATUS_ISSUING,
    values.IssuanceStatus.HALTED: issuance_pb.ISSUANCE_STATUS_HALTED,
}


def to_duration(duration: timedelta | None) -> Duration | None:
    """Translate a duration; None stays None."""
    if duration is None:
        return None
    message = Duration()
    message.FromTimedelta(duration)
    return message


def to_name(name: values.Name) -> certificate_pb.SubjectAlternativeName:
    """Translate a requested name."""
    return certificate_pb.SubjectAlternativeName(type=to_number(NAME_TYPES, name.type, "names"), value=name.value)


def to_item(item: values.SignItem) -> certificate_pb.SignCertificateItem:
    """Translate an item to sign."""
    return certificate_pb.SignCertificateItem(
        profile=resource_name("profiles", item.profile),
        csr=item.csr,
        names=[to_name(name) for name in item.names],
        lifetime=to_duration(item.lifetime),
        common_name=item.common_name or "",
        authority="" if item.authority is None else resource_name("authorities", item.authority),
    )


def from_signed(response: certificate_pb.SignCertificateResponse) -> values.SignedCertificate:
    """Translate the certificate of a call."""
    certificate = response.certificate
    return values.SignedCertificate(
        name=certificate.name,
        authority=certificate.authority,
        certificate_der=certificate.certificate_der,
        chain_der=tuple(response.chain_der),
        not_before=_time(certificate.not_before_time),
        not_after=_time(certificate.not_after_time),
        renew_at=_time(response.renew_time),
        ignored=tuple(certificate.ignored),
    )


def from_outcomes(
    response: certificate_pb.SignCertificatesResponse,
) -> list[values.SignedCertificate | KeyreeveError]:
    """Translate the outcomes of a batch: certificates and errors, in order."""
    chains = {chain.authority: tuple(chain.chain_der) for chain in response.chains}
    return [_outcome(outcome, chains) for outcome in response.outcomes]


def _outcome(
    outcome: certificate_pb.SignCertificateOutcome, chains: Mapping[str, tuple[bytes, ...]]
) -> values.SignedCertificate | KeyreeveError:
    if outcome.WhichOneof("outcome") != "signed":
        return errors.from_reason(outcome.error.reason, outcome.error.message, metadata=dict(outcome.error.metadata))
    signed = outcome.signed
    parsed = x509.load_der_x509_certificate(signed.certificate_der)  # a batch does not repeat what the DER says
    return values.SignedCertificate(
        name=signed.name,
        authority=signed.authority,
        certificate_der=signed.certificate_der,
        chain_der=chains[signed.authority],
        not_before=parsed.not_valid_before_utc,
        not_after=parsed.not_valid_after_utc,
        renew_at=_time(signed.renew_time),
        ignored=tuple(signed.ignored),
    )


def from_blocked_key(message: certificate_pb.BlockedKey) -> values.BlockedKey:
    """Translate a blocked key."""
    return values.BlockedKey(
        name=message.name,
        reason=message.reason,
        created_at=_time(message.create_time),
        creator=message.creator,
        approved_at=_time(message.approve_time) if message.HasField("approve_time") else None,
        approver=message.approver,
    )


def from_certificate(message: certificate_pb.Certificate) -> values.Certificate:
    """Translate a certificate of the ledger."""
    return values.Certificate(
        name=message.name,
        authority=message.authority,
        profile=message.profile,
        profile_version=message.profile_version,
        identity=message.identity,
        requester=message.requester,
        request_id=message.request_id,
        not_before=_time(message.not_before_time),
        not_after=_time(message.not_after_time),
        issued_at=_time(message.issue_time),
        state=from_number(CERTIFICATE_STATES, message.state),
        spki_sha256=message.spki_sha256,
        certificate_der=message.certificate_der,
        renews=message.renews,
        revoked_at=_time(message.revoke_time) if message.HasField("revoke_time") else None,
        revocation_reason=(
            from_number(CRL_REASONS, message.revocation_reason) if message.HasField("revoke_time") else None
        ),
        revoker=message.revoker,
        ignored=tuple(message.ignored),
    )


def from_revocation_list(message: certificate_pb.RevocationList) -> values.RevocationList:
    """Translate a CRL."""
    return values.RevocationList(
        name=message.name,
        number=message.number,
        this_update=_time(message.this_update_time),
        next_update=_time(message.next_update_time),
        entries=message.entries,
        crl_der=message.crl_der,
    )


def from_revoked_certificates(message: certificate_pb.RevokedCertificatesUpdate) -> values.RevokedCertificates:
    """Translate an update of revoked certificates."""
    return values.RevokedCertificates(
        message.restore_generation, message.seq, tuple(map(from_certificate, message.certificates))
    )


def from_callers_update(message: trust_pb.CallersUpdate) -> caller_values.CallersUpdate:
    """Translate an update of the caller feed."""
    return caller_values.CallersUpdate(
        restore_generation=message.restore_generation,
        after_seq=message.after_seq,
        seq=message.seq,
        head_seq=message.head_seq,
        time=message.time.seconds,
        authorities=tuple(
            caller_values.IssuingAuthority(one.name, from_number(AUTHORITY_STATES, one.state), one.certificate_der)
            for one in message.authorities
        ),
        operators=tuple(
            caller_values.OperatorRecord(
                one.name, one.person_uid, from_number(OPERATOR_ROLES, one.role), one.since_time.seconds, one.removed
            )
            for one in message.operators
        ),
        revoked=tuple((one.serial, one.not_after_time.seconds) for one in message.revoked),
        signature=message.signature,
        signer_der=tuple(message.signer_der),
        members=tuple(from_member_record(one) for one in message.members),
        closed_sessions=tuple((one.session, one.end_time.seconds) for one in message.closed_sessions),
    )


def from_member_record(message: trust_pb.MemberRecord) -> caller_values.MemberRecord:
    """Translate a member's record."""
    return caller_values.MemberRecord(
        message.member_uid,
        message.identity,
        message.array,
        from_number(MEMBER_STATES, message.state),
        primary=message.primary,
        removed=message.removed,
    )


def to_member_record(record: caller_values.MemberRecord) -> trust_pb.MemberRecord:
    """Translate a member's record into a message."""
    return trust_pb.MemberRecord(
        member_uid=record.member_uid,
        identity=record.identity,
        array=record.array,
        state=to_number(MEMBER_STATES, record.state, "state"),
        primary=record.primary,
        removed=record.removed,
    )


def to_order(order: values.Order | None) -> authority_pb.Order | None:
    """Translate the place of a change."""
    if order is None:
        return None
    return authority_pb.Order(
        rotation=order.rotation, step=order.step, fence=order.fence, owner_nonce=order.owner_nonce
    )


def from_authority(message: authority_pb.Authority) -> values.Authority:
    """Translate an authority."""
    return values.Authority(
        name=message.name,
        hierarchy=from_number(HIERARCHIES, message.hierarchy),
        kind=from_number(KINDS, message.kind),
        state=from_number(AUTHORITY_STATES, message.state),
        owner=message.owner,
        issuer=message.issuer,
        common_name=message.common_name,
        key_type=from_number(AUTHORITY_KEY_TYPES, message.key_type),
        lifetime=message.lifetime.ToTimedelta(),
        permitted_dns_suffixes=tuple(message.permitted_dns_suffixes),
        certificate_der=message.certificate_der,
        certificate_sha256=message.certificate_sha256,
        not_before=_time(message.not_before_time),
        not_after=_time(message.not_after_time),
        created_at=_time(message.create_time),
        activated_at=_time(message.activate_time) if message.HasField("activate_time") else None,
        retired_at=_time(message.retire_time) if message.HasField("retire_time") else None,
        revoked_at=_time(message.revoke_time) if message.HasField("revoke_time") else None,
    )


def from_bundle(message: authority_pb.Bundle) -> values.Bundle:
    """Translate a trust bundle."""
    return values.Bundle(
        name=message.name,
        trust_domain=message.trust_domain,
        roots_der=tuple(message.roots_der),
        digest=message.digest,
        trust_root=message.trust_root,
    )


def from_profile(message: profile_pb.Profile) -> values.Profile:
    """Translate a version of a profile."""
    return values.Profile(
        name=message.name,
        version=message.version,
        document=message.document,
        sha256=message.sha256,
        created_at=_time(message.create_time),
        creator=message.creator,
        halted=message.halted,
        built_in=message.built_in,
    )


def from_report(message: profile_pb.SimulateProfileResponse) -> values.SimulationReport:
    """Translate the report of a simulation."""
    return values.SimulationReport(
        examined=message.examined,
        same=message.same,
        different=message.different,
        refused=message.refused,
        issuances=tuple(
            values.SimulatedIssuance(
                certificate=issuance.certificate,
                outcome=from_number(OUTCOMES, issuance.outcome),
                reason=issuance.reason,
                message=issuance.message,
            )
            for issuance in message.issuances
        ),
    )


def from_operator(message: operator_pb.Operator) -> values.Operator:
    """Translate an operator's record."""
    return values.Operator(
        name=message.name,
        person_uid=message.person_uid,
        role=from_number(OPERATOR_ROLES, message.role),
        identity=message.identity,
        created_at=_time(message.create_time),
        invited_at=_time(message.invite_time),
        invited_by=message.inviter,
        renews_until=_time(message.renew_until_time),
        removed_at=_time(message.remove_time) if message.HasField("remove_time") else None,
        keys=tuple(map(from_operator_key, message.keys)),
    )


def from_operator_key(key: operator_pb.OperatorKey) -> values.OperatorKey:
    """Translate a key of an operator."""
    return values.OperatorKey(key.public_key, key.fingerprint, key.hardware, _time(key.create_time), key.creator)


def from_operator_approval(message: operator_pb.OperatorApproval) -> values.OperatorApproval:
    """Translate the approval of a change of an operator."""
    return values.OperatorApproval(
        operator=message.operator_id,
        role=from_number(OPERATOR_ROLES, message.role) if message.role else None,
        approver=message.approver,
        expires_at=_time(message.expire_time),
    )


def from_invitation(
    message: operator_pb.InviteOperatorResponse | operator_pb.UpdateOperatorResponse,
) -> values.Invitation:
    """Translate an operator's record and token."""
    return values.Invitation(
        operator=from_operator(message.operator),
        token=message.token,
        token_expires_at=_time(message.token_expire_time) if message.HasField("token_expire_time") else None,
    )


def from_issuance_state(message: issuance_pb.IssuanceState) -> values.IssuanceState:
    """Translate the state of issuance."""
    return values.IssuanceState(
        status=from_number(ISSUANCE_STATUSES, message.status),
        halted_at=_time(message.halt_time) if message.HasField("halt_time") else None,
        halted_by=message.halter,
        halt_reason=message.halt_reason,
        approved_at=_time(message.approve_time) if message.HasField("approve_time") else None,
        approved_by=message.approver,
        resumed_at=_time(message.resume_time) if message.HasField("resume_time") else None,
        resumed_by=message.resumer,
        resume_reason=message.resume_reason,
        resume_needs_two=message.resume_needs_two,
    )


def from_token(message: enrollment_pb.EnrollmentToken) -> token_values.Token:
    """Translate an enrollment token."""
    return token_values.Token(
        name=message.name,
        identity=message.identity,
        creator=message.creator,
        state=from_number(TOKEN_STATES, message.state),
        created_at=_time(message.create_time),
        expires_at=_time(message.expire_time),
        bound_at=_time(message.bind_time) if message.HasField("bind_time") else None,
        ended_at=_time(message.end_time) if message.HasField("end_time") else None,
        certificate=message.certificate,
    )


def _time(message: Timestamp) -> datetime:
    return message.ToDatetime(UTC)
