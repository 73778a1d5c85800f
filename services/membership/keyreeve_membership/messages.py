"""Messages of values that several servicers send."""

from collections.abc import Sequence

from google.protobuf.timestamp_pb2 import Timestamp

from keyreeve.membership.v1 import array_service_pb2 as array_pb
from keyreeve.membership.v1 import bundle_service_pb2 as bundle_pb
from keyreeve.membership.v1 import member_service_pb2 as member_pb
from keyreeve_chassis.guard.call import timestamp
from keyreeve_membership.epochs.ports import AuthorityUse, Epoch
from keyreeve_membership.roll.ports import (
    Acknowledgement,
    Array,
    ArrayState,
    Member,
    MemberEvent,
    MemberState,
    Report,
)

ARRAY_STATES = {
    ArrayState.ACTIVE: array_pb.ARRAY_STATE_ACTIVE,
    ArrayState.DISSOLVED: array_pb.ARRAY_STATE_DISSOLVED,
}
MEMBER_STATES = {
    MemberState.STANDALONE: member_pb.MEMBER_STATE_STANDALONE,
    MemberState.JOINING: member_pb.MEMBER_STATE_JOINING,
    MemberState.MEMBER: member_pb.MEMBER_STATE_MEMBER,
    MemberState.DETACHING: member_pb.MEMBER_STATE_DETACHING,
    MemberState.QUARANTINED: member_pb.MEMBER_STATE_QUARANTINED,
    MemberState.DETACHED: member_pb.MEMBER_STATE_DETACHED,
}
_USES = {
    AuthorityUse.ISSUE: bundle_pb.AUTHORITY_USE_ISSUE,
    AuthorityUse.ACCEPT: bundle_pb.AUTHORITY_USE_ACCEPT,
    AuthorityUse.CHECK: bundle_pb.AUTHORITY_USE_CHECK,
}


def array_message(array: Array, members: Sequence[Member]) -> array_pb.Array:
    """An array with its members as a message."""
    names = {one.member_uid: one.resource for one in members}
    return array_pb.Array(
        name=array.resource,
        state=ARRAY_STATES[array.state],
        primary=next((one.resource for one in members if one.primary), ""),
        member_count=len(members),
        authority=f"authorities/{array.authority_id}",
        authority_sha256=array.authority_sha256,
        epoch=array.epoch,
        peer_security=array.peer_security,
        change=f"operations/{array.change}" if array.change else "",
        backup_primaries=[names[uid] for uid in array.backups if uid in names],
        create_time=timestamp(array.created_at),
    )


def member_message(
    member: Member,
    report: Report | None = None,
    acknowledged: Acknowledgement | None = None,
    disagreements: Sequence[str] = (),
) -> member_pb.Member:
    """A member as a message."""
    message = member_pb.Member(
        name=member.resource,
        member_uid=member.member_uid,
        array=f"arrays/{member.array_id}" if member.array_id else "",
        joining_array=f"arrays/{member.joining_array_id}" if member.joining_array_id else "",
        state=MEMBER_STATES[member.state],
        primary=member.primary,
        address=member.address,
        external_names=member.external_names,
        release=member.release,
        create_time=timestamp(member.created_at),
        revision=member.revision,
    )
    if report is not None:
        counted = acknowledged is not None and acknowledged.array_id == member.array_id
        message.report.CopyFrom(
            member_pb.Report(
                receive_time=_milliseconds(report.received_at_ms),
                clock_difference_ms=report.clock_difference_ms,
                status=_status(member, report),
                disagreements=disagreements,
                acknowledged_epoch=acknowledged.epoch if acknowledged is not None and counted else 0,
            )
        )
    return message


def event_message(event: MemberEvent) -> member_pb.MemberEvent:
    """One change of a member as a message."""
    return member_pb.MemberEvent(
        revision=event.revision,
        member=f"members/{event.name}",
        member_uid=event.member_uid,
        array=f"arrays/{event.array_id}" if event.array_id else "",
        event=event.event,
        actor=event.actor,
        comment=event.comment,
        time=timestamp(event.at),
    )


def epoch_message(epoch: Epoch) -> bundle_pb.Epoch:
    """An epoch as a message."""
    return bundle_pb.Epoch(
        array=f"arrays/{epoch.array_id}",
        restore_generation=epoch.restore_generation,
        epoch=epoch.epoch,
        digest=epoch.digest,
        previous_digest=epoch.previous_digest,
        authorities=[
            bundle_pb.BundleAuthority(
                name=f"authorities/{one.authority_id}", certificate_der=one.certificate_der, use=_USES[one.use]
            )
            for one in epoch.authorities
        ],
        rotation=f"rotations/{epoch.rotation_id}" if epoch.rotation_id else "",
        create_time=timestamp(epoch.created_at),
    )


def _status(member: Member, report: Report) -> member_pb.Status:
    status = member_pb.Status(
        boot_id=report.boot_id,
        time=_milliseconds(report.time_ms),
        release=member.release,
        address=member.address,
        external_names=member.external_names,
        peers=[
            member_pb.PeerReach(
                member=f"members/{one.member}",
                reachable=one.reachable,
                problem=one.problem,
                clock_difference_ms=one.clock_difference_ms,
            )
            for one in report.peers
        ],
        certificate=f"certificates/{report.certificate}" if report.certificate else "",
        authority=f"authorities/{report.authority_id}" if report.authority_id else "",
        certificate_expire_time=timestamp(report.certificate_not_after or None),
        stopped=report.stopped,
    )
    if report.view is not None:
        status.view.CopyFrom(
            member_pb.ArrayView(
                array=f"arrays/{report.view.array}" if report.view.array else "",
                primary=f"members/{report.view.primary}" if report.view.primary else "",
                members=[f"members/{name}" for name in report.view.members],
                epoch=report.view.epoch,
                digest=report.view.digest,
            )
        )
    if report.running_sessions is not None:
        status.sessions.running = report.running_sessions
        status.sessions.suspended = report.suspended_sessions or 0
    return status


def _milliseconds(time_ms: int) -> Timestamp:
    return Timestamp(seconds=time_ms // 1000, nanos=time_ms % 1000 * 1_000_000)
