"""Translation between messages of the membership service and values."""

from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

from keyreeve import membership_values as values
from keyreeve.common_values import KeyType
from keyreeve.membership.v1 import array_service_pb2 as array_pb
from keyreeve.membership.v1 import bundle_service_pb2 as bundle_pb
from keyreeve.membership.v1 import member_service_pb2 as member_pb
from keyreeve.membership.v1 import rotation_service_pb2 as rotation_pb
from keyreeve.membership.v1 import setting_service_pb2 as setting_pb
from keyreeve.wire_fields import from_number, resource_name, to_timestamp

ARRAY_STATES = {
    values.ArrayState.ACTIVE: array_pb.ARRAY_STATE_ACTIVE,
    values.ArrayState.DISSOLVED: array_pb.ARRAY_STATE_DISSOLVED,
}
MEMBER_STATES = {
    values.MemberState.STANDALONE: member_pb.MEMBER_STATE_STANDALONE,
    values.MemberState.JOINING: member_pb.MEMBER_STATE_JOINING,
    values.MemberState.MEMBER: member_pb.MEMBER_STATE_MEMBER,
    values.MemberState.DETACHING: member_pb.MEMBER_STATE_DETACHING,
    values.MemberState.QUARANTINED: member_pb.MEMBER_STATE_QUARANTINED,
    values.MemberState.DETACHED: member_pb.MEMBER_STATE_DETACHED,
}
AUTHORITY_USES = {
    values.AuthorityUse.ISSUE: bundle_pb.AUTHORITY_USE_ISSUE,
    values.AuthorityUse.ACCEPT: bundle_pb.AUTHORITY_USE_ACCEPT,
    values.AuthorityUse.CHECK: bundle_pb.AUTHORITY_USE_CHECK,
}

ROTATION_KINDS = {
    values.RotationKind.PROMOTE: rotation_pb.ROTATION_KIND_PROMOTE,
    values.RotationKind.SCHEDULED: rotation_pb.ROTATION_KIND_SCHEDULED,
    values.RotationKind.ALGORITHM_CHANGE: rotation_pb.ROTATION_KIND_ALGORITHM_CHANGE,
    values.RotationKind.EMERGENCY: rotation_pb.ROTATION_KIND_EMERGENCY,
}
ROTATION_PHASES = {
    values.RotationPhase.PREPARED: rotation_pb.ROTATION_PHASE_PREPARED,
    values.RotationPhase.DISTRIBUTED: rotation_pb.ROTATION_PHASE_DISTRIBUTED,
    values.RotationPhase.ACTIVATED: rotation_pb.ROTATION_PHASE_ACTIVATED,
    values.RotationPhase.REISSUED: rotation_pb.ROTATION_PHASE_REISSUED,
    values.RotationPhase.DISTRUSTED: rotation_pb.ROTATION_PHASE_DISTRUSTED,
    values.RotationPhase.ROLLED_BACK: rotation_pb.ROTATION_PHASE_ROLLED_BACK,
}
ROTATION_KEY_TYPES = {
    KeyType.P256: rotation_pb.ROTATION_KEY_TYPE_P256,
    KeyType.P384: rotation_pb.ROTATION_KEY_TYPE_P384,
    KeyType.RSA3072: rotation_pb.ROTATION_KEY_TYPE_RSA3072,
}
_EVIDENCE = {
    values.Evidence.NONE: rotation_pb.EVIDENCE_UNSPECIFIED,
    values.Evidence.STATEMENT: rotation_pb.EVIDENCE_STATEMENT,
    values.Evidence.PEER_CHECK: rotation_pb.EVIDENCE_PEER_CHECK,
}

_SETTING_SCOPES = {
    values.SettingScope.ARRAY: setting_pb.SETTING_SCOPE_ARRAY,
    values.SettingScope.SERVER: setting_pb.SETTING_SCOPE_SERVER,
}


def array_name(text: str) -> str:
    """Return the full name of an array that may be given by its last part."""
    return resource_name("arrays", text)


def member_name(text: str) -> str:
    """Return the full name of a member that may be given by its peer DNS name."""
    return resource_name("members", text)


def to_server(server: values.Server) -> member_pb.Server:
    """Translate what is known of a server."""
    return member_pb.Server(
        name=member_name(server.name),
        address=server.address,
        external_names=server.external_names,
        release=server.release,
    )


def to_status(status: values.Status) -> member_pb.Status:
    """Translate what a server says of itself."""
    message = member_pb.Status(
        boot_id=status.boot_id,
        time=to_timestamp(status.time, "time"),
        release=status.release,
        address=status.address,
        external_names=status.external_names,
        peers=[
            member_pb.PeerReach(
                member=member_name(one.member),
                reachable=one.reachable,
                problem=one.problem,
                clock_difference_ms=one.clock_difference_ms,
            )
            for one in status.peers
        ],
        certificate=status.certificate,
        authority=status.authority,
        certificate_expire_time=to_timestamp(status.certificate_not_after, "certificate_not_after"),
        stopped=status.stopped,
    )
    if status.view is not None:
        message.view.CopyFrom(
            member_pb.ArrayView(
                array=status.view.array,
                primary=status.view.primary,
                members=status.view.members,
                epoch=status.view.epoch,
                digest=status.view.digest,
            )
        )
    if status.running_sessions is not None:
        message.sessions.running = status.running_sessions
        message.sessions.suspended = status.suspended_sessions or 0
    return message


def from_status(message: member_pb.Status) -> values.Status:
    """Translate what a server said of itself."""
    view, sessions = None, message.sessions if message.HasField("sessions") else None
    if message.HasField("view"):
        said = message.view
        view = values.ArrayView(said.array, said.primary, tuple(said.members), said.epoch, said.digest)
    expires = message.HasField("certificate_expire_time")
    return values.Status(
        boot_id=message.boot_id,
        time=_time(message.time),
        release=message.release,
        address=message.address,
        external_names=tuple(message.external_names),
        view=view,
        peers=tuple(
            values.PeerReach(one.member, one.reachable, one.problem, one.clock_difference_ms) for one in message.peers
        ),
        certificate=message.certificate,
        authority=message.authority,
        certificate_not_after=_time(message.certificate_expire_time) if expires else None,
        running_sessions=None if sessions is None else sessions.running,
        suspended_sessions=None if sessions is None else sessions.suspended,
        stopped=message.stopped,
    )


def from_array(message: array_pb.Array) -> values.Array:
    """Translate an array."""
    return values.Array(
        name=message.name,
        state=from_number(ARRAY_STATES, message.state),
        primary=message.primary,
        member_count=message.member_count,
        authority=message.authority,
        authority_sha256=message.authority_sha256,
        epoch=message.epoch,
        peer_security=message.peer_security,
        change=message.change,
        backup_primaries=tuple(message.backup_primaries),
        created_at=_time(message.create_time),
    )


def from_member(message: member_pb.Member) -> values.Member:
    """Translate a member."""
    report = None
    if message.HasField("report"):
        report = values.Report(
            received_at=_time(message.report.receive_time),
            clock_difference_ms=message.report.clock_difference_ms,
            status=from_status(message.report.status),
            disagreements=tuple(message.report.disagreements),
            acknowledged_epoch=message.report.acknowledged_epoch,
        )
    return values.Member(
        name=message.name,
        member_uid=message.member_uid,
        array=message.array,
        joining_array=message.joining_array,
        state=from_number(MEMBER_STATES, message.state),
        primary=message.primary,
        address=message.address,
        external_names=tuple(message.external_names),
        release=message.release,
        created_at=_time(message.create_time),
        revision=message.revision,
        report=report,
    )


def from_member_event(message: member_pb.MemberEvent) -> values.MemberEvent:
    """Translate one change of a member."""
    return values.MemberEvent(
        message.revision,
        message.member,
        message.member_uid,
        message.array,
        message.event,
        message.actor,
        message.comment,
        _time(message.time),
    )


def from_members_update(message: member_pb.MembersUpdate) -> values.MembersUpdate:
    """Translate changes of the roll."""
    return values.MembersUpdate(tuple(from_member(one) for one in message.members), message.revision, message.complete)


def from_instruction(message: member_pb.ReportStatusResponse) -> values.Instruction:
    """Translate what a server is to do."""
    return values.Instruction(
        member=from_member(message.member),
        array=message.array,
        epoch=message.epoch,
        authority=message.authority,
        renew_at=_time(message.renew_time) if message.HasField("renew_time") else None,
        interval_seconds=message.interval_seconds,
        time=_time(message.time),
        peer_security=message.peer_security,
    )


def from_peer_certificate(message: member_pb.PeerCertificate) -> values.PeerCertificate:
    """Translate a peer certificate."""
    return values.PeerCertificate(
        name=message.name,
        certificate_der=message.certificate_der,
        authority=message.authority,
        not_after=_time(message.not_after_time),
        renew_at=_time(message.renew_time),
    )


def from_epoch(message: bundle_pb.Epoch) -> values.Epoch:
    """Translate an epoch."""
    return values.Epoch(
        array=message.array,
        restore_generation=message.restore_generation,
        epoch=message.epoch,
        digest=message.digest,
        previous_digest=message.previous_digest,
        authorities=tuple(
            values.BundleAuthority(one.name, one.certificate_der, from_number(AUTHORITY_USES, one.use))
            for one in message.authorities
        ),
        rotation=message.rotation,
        created_at=_time(message.create_time),
    )


def rotation_name(text: str) -> str:
    """Return the full name of a rotation that may be given by its last part."""
    return resource_name("rotations", text)


def from_rotation(message: rotation_pb.Rotation) -> values.Rotation:
    """Translate a rotation."""
    return values.Rotation(
        name=message.name,
        array=message.array,
        kind=from_number(ROTATION_KINDS, message.kind),
        phase=from_number(ROTATION_PHASES, message.phase),
        step=message.step,
        old_authority=message.old_authority,
        new_authority=message.new_authority,
        new_primary=message.new_primary,
        epoch=message.epoch,
        final_epoch=message.final_epoch,
        deadline=_time(message.deadline_time) if message.HasField("deadline_time") else None,
        operation=message.operation,
        old_certificates_waived=message.old_certificates_waived,
        old_certificates=message.old_certificates,
        members=tuple(
            values.RotationMember(
                member=one.member,
                evidence=from_number(_EVIDENCE, one.evidence),
                waived=one.waived,
                reissued=one.reissued,
                quarantined=one.quarantined,
                waiting=one.waiting,
                waiting_since=_time(one.wait_start_time) if one.HasField("wait_start_time") else None,
            )
            for one in message.members
        ),
        created_at=_time(message.create_time),
        updated_at=_time(message.update_time),
        ended_at=_time(message.end_time) if message.HasField("end_time") else None,
        waiting=message.waiting,
    )


def from_settings(message: setting_pb.Settings) -> tuple[values.Setting, ...]:
    """Translate settings."""
    return tuple(
        values.Setting(one.name, one.value, from_number(_SETTING_SCOPES, one.scope)) for one in message.settings
    )


def _time(message: Timestamp) -> datetime:
    return message.ToDatetime(UTC)
