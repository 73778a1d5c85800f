"""MemberService: access rules, and messages to values and back."""

import functools
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial

from google.protobuf.timestamp_pb2 import Timestamp

from keyreeve import errors
from keyreeve.identity import OPERATOR_ROLES, Role
from keyreeve.membership.v1 import member_service_pb2 as pb
from keyreeve_chassis.changes.shared_reads import SharedReads
from keyreeve_chassis.database.ports import Store
from keyreeve_chassis.guard.access import AccessRule, AccessRules, Freshness, through_gateways
from keyreeve_chassis.guard.call import Call, caller_of, id_of, invalid, printable, timestamp
from keyreeve_chassis.guard.paging import Pages
from keyreeve_chassis.idempotency.mutation import Act, Mutations
from keyreeve_membership.authorities.ports import ArrayAuthorities
from keyreeve_membership.changes.quarantine import Quarantine
from keyreeve_membership.changes.removing import Removing
from keyreeve_membership.configuration.service import Configuration
from keyreeve_membership.messages import event_message, member_message
from keyreeve_membership.renewals.pacing import Pace
from keyreeve_membership.renewals.times import renewal_time
from keyreeve_membership.roll import backups, names
from keyreeve_membership.roll.access import require_agent_of, require_agent_of_primary, require_array_of
from keyreeve_membership.roll.array_servicer import CHANGERS, READ, READERS
from keyreeve_membership.roll.following import BATCH, changed_members
from keyreeve_membership.roll.peer_requests import check_peer_request
from keyreeve_membership.roll.ports import ArrayView, Member, PeerReach, Report
from keyreeve_membership.roll.service import Roll, Server, get_array, get_member
from keyreeve_membership.roll.views import disagreements
from keyreeve_membership.store.ports import Transaction

SERVICE = "/keyreeve.membership.v1.MemberService/"
_AGENT = frozenset({Role.MEMBER})

ACCESS: AccessRules = through_gateways(
    {
        SERVICE + "GetMember": READ,
        SERVICE + "ListMembers": READ,
        SERVICE + "ListMemberEvents": AccessRule(OPERATOR_ROLES, freshness=Freshness.TOLERANT, records=("member",)),
        SERVICE + "WatchMembers": AccessRule(
            READERS, long_stream=True, freshness=Freshness.TOLERANT, records=("array",)
        ),
        # Every agent reports twice a minute: the report is stored itself.
        SERVICE + "ReportStatus": AccessRule(_AGENT, freshness=Freshness.TOLERANT, unrecorded=True),
        SERVICE + "IssuePeerCertificate": AccessRule(_AGENT, forwarded=True),
        SERVICE + "QuarantineMember": AccessRule(CHANGERS - _AGENT, forwarded=True, records=("name", "comment")),
        SERVICE + "ReadmitMember": AccessRule(CHANGERS - _AGENT, forwarded=True),
        SERVICE + "RemoveMember": AccessRule(CHANGERS, forwarded=True, records=("name",)),
        SERVICE + "ListBackupPrimaries": AccessRule(READERS, freshness=Freshness.TOLERANT, records=("array",)),
        SERVICE + "AddBackupPrimary": AccessRule(CHANGERS, forwarded=True, records=("member", "position")),
        SERVICE + "MoveBackupPrimary": AccessRule(CHANGERS, forwarded=True, records=("member", "position")),
        SERVICE + "RemoveBackupPrimary": AccessRule(CHANGERS, forwarded=True, records=("array", "member")),
    },
    "GetMember",
    "ListMembers",
    "ListBackupPrimaries",
    "AddBackupPrimary",
    "MoveBackupPrimary",
    "RemoveBackupPrimary",
)
_WATCH_SECONDS = 60.0
_MOST_PEERS = 1_000
_LONGEST_COMMENT = 200


@dataclass(frozen=True)
class MemberServicer:
    """Serves MemberService."""

    roll: Roll
    quarantine: Quarantine
    removing: Removing
    authorities: ArrayAuthorities
    store: Store[Transaction]
    mutations: Mutations[Transaction]
    pages: Pages
    streams: SharedReads[Transaction]
    """What the streams follow the roll with."""
    configuration: Configuration
    pace: Pace
    now_ms: Callable[[], int]
    refuse_altered: Callable[[], None]
    """Raises `TrustTableAltered` while another has written into the roll."""

    async def GetMember(self, request: pb.GetMemberRequest, call: Call) -> pb.Member:
        caller, name = caller_of(call), id_of(request.name, "members")

        def read(tx: Transaction) -> pb.Member:
            member = get_member(tx, name)
            require_array_of(tx, caller, member.array_id)
            return _messages(tx, [member])[0]

        return await self.store.read(read)

    async def ListMembers(self, request: pb.ListMembersRequest, call: Call) -> pb.ListMembersResponse:
        page, caller = self.pages.open(call, request), caller_of(call)
        array_id = id_of(request.array, "arrays", "array") if request.array else ""

        def read(tx: Transaction) -> tuple[list[pb.Member], str | None]:
            require_array_of(tx, caller, array_id)
            rows = tx.roll.members(
                after=page.after, limit=page.size + 1, array_id=array_id, detached=request.show_detached
            )
            last = f"{rows[page.size - 1].name} {rows[page.size - 1].member_uid}" if len(rows) > page.size else None
            return _messages(tx, rows[: page.size]), last

        members, last = await self.store.read(read)
        return pb.ListMembersResponse(members=members, next_page_token=page.next_token(last))

    async def ListMemberEvents(self, request: pb.ListMemberEventsRequest, call: Call) -> pb.ListMemberEventsResponse:
        page, name = self.pages.open(call, request), id_of(request.member, "members", "member")
        after = int(page.after or 0)
        rows = await self.store.read(lambda tx: tx.roll.history(name, after=after, limit=page.size + 1))
        if not rows and not after:
            raise errors.MemberNotFound(f"no server has been named {name[:253]!a}", metadata={"member": name[:253]})
        last = str(rows[page.size - 1].revision) if len(rows) > page.size else None
        events = [event_message(one) for one in rows[: page.size]]
        return pb.ListMemberEventsResponse(events=events, next_page_token=page.next_token(last))

    async def WatchMembers(self, request: pb.WatchMembersRequest, call: Call) -> AsyncIterator[pb.MembersUpdate]:
        array_id = id_of(request.array, "arrays", "array") if request.array else ""
        if request.after_revision < 0:
            raise invalid("after_revision", "must not be negative")
        caller, wait, after = caller_of(call), self.streams.follower(), request.after_revision
        own = caller.id.path[-1] if caller.role is Role.MEMBER else None
        told = checked = False
        while True:
            members, revision = await self.streams.read(after, partial(changed_members, after))
            # The array that a server is in changes with its record alone.
            if not checked or any(one.name == own for one in members):
                await self.store.read(partial(require_array_of, caller=caller, array_id=array_id))
                checked = True
            complete = len(members) < BATCH
            after = revision if complete else members[-1].revision
            sent = [one for one in members if _concerns(one, array_id)]
            if sent or (complete and not told):
                told = told or complete
                yield pb.MembersUpdate(members=[member_message(one) for one in sent], revision=after, complete=complete)
            del members, sent
            if complete:
                await wait(_WATCH_SECONDS)

    async def ReportStatus(self, request: pb.ReportStatusRequest, call: Call) -> pb.ReportStatusResponse:
        caller, name = caller_of(call), id_of(request.name, "members")
        require_agent_of(caller, name)
        server, received = _server(name, request.status), self.now_ms()

        def act(tx: Transaction) -> tuple[pb.ReportStatusResponse, Report]:
            member = get_member(tx, name)
            report = self.roll.report(tx, member, _report(member, request.status, received))
            member = self.roll.update_server(tx, member, server, str(caller))
            array = get_array(tx, member.joining_array_id or member.array_id)
            response = pb.ReportStatusResponse(
                member=member_message(member),
                array=array.resource,
                epoch=array.epoch,
                authority=f"authorities/{array.authority_id}",
                interval_seconds=self.configuration.interval(tx, array.array_id),
                renew_time=timestamp(renewal_time(name, report)),
                time=Timestamp(seconds=received // 1000, nanos=received % 1000 * 1_000_000),
                peer_security=array.peer_security,
            )
            return response, report

        response, report = await self.store.write(act)
        if report.cloned:  # only now: the report is stored, and names the server to its operators
            raise errors.ClonedMember(
                f"two boots of {name} report in turn: the server was copied or put back to a snapshot",
                metadata={"member": name, "boots": f"{report.former_boot_id},{report.boot_id}"},
            )
        return response

    async def IssuePeerCertificate(self, request: pb.IssuePeerCertificateRequest, call: Call) -> pb.PeerCertificate:
        name = id_of(request.name, "members")
        require_agent_of(caller_of(call), name)
        check_peer_request(request.csr, name)
        self.refuse_altered()

        async def prepare(
            run: Callable[[Act[Transaction, pb.PeerCertificate]], Awaitable[pb.PeerCertificate]],
        ) -> pb.PeerCertificate:
            member, authority_id = await self.store.read(lambda tx: self.roll.issuer_of(tx, name))
            uid = member.member_uid
            report = (await self.store.read(lambda tx: tx.roll.report_facts([uid]))).get(uid)
            # One that a rotation replaces is good until it ends, as one that is renewed; who has none never waits.
            ends = 0 if report is None else report.certificate_not_after
            self.pace.admit(name, ends - self.now_ms() / 1000)
            request_id = str(uuid.uuid5(uuid.UUID(request.request_id), member.member_uid))
            issued = await self.authorities.issue_peer(authority_id, name, request.csr, request_id)

            def act(tx: Transaction) -> pb.PeerCertificate:
                if self.roll.issuer_of(tx, name) != (member, authority_id):
                    raise errors.MemberStateWrong(f"{name} has changed its array meanwhile", metadata={"member": name})
                return pb.PeerCertificate(
                    name=f"certificates/{issued.serial}",
                    certificate_der=issued.certificate_der,
                    authority=f"authorities/{issued.authority_id}",
                    not_after_time=timestamp(issued.not_after),
                    renew_time=timestamp(issued.renew_at),
                )

            return await run(act)

        return await self.mutations.prepared(call, request, prepare)

    async def QuarantineMember(self, request: pb.QuarantineMemberRequest, call: Call) -> pb.Member:
        name, actor = id_of(request.name, "members"), str(caller_of(call))
        comment = printable(request.comment, "comment")
        if not 1 <= len(comment) <= _LONGEST_COMMENT:
            raise invalid("comment", f"1 to {_LONGEST_COMMENT} characters are required")
        self.refuse_altered()
        return await self.mutations(
            call, request, lambda tx: member_message(self.quarantine.quarantine(tx, name, actor, comment))
        )

    async def ReadmitMember(self, request: pb.ReadmitMemberRequest, call: Call) -> pb.Member:
        name, actor = id_of(request.name, "members"), str(caller_of(call))
        self.refuse_altered()
        return await self.mutations(call, request, lambda tx: member_message(self.quarantine.readmit(tx, name, actor)))

    async def RemoveMember(self, request: pb.RemoveMemberRequest, call: Call) -> pb.Member:
        caller, name = caller_of(call), id_of(request.name, "members")
        require_agent_of(caller, name)
        self.refuse_altered()
        return await self.mutations(
            call, request, lambda tx: member_message(self.removing.remove(tx, name, str(caller)))
        )

    async def ListBackupPrimaries(self, request: pb.ListBackupPrimariesRequest, call: Call) -> pb.BackupPrimaries:
        caller, array_id = caller_of(call), id_of(request.array, "arrays", "array")

        def read(tx: Transaction) -> pb.BackupPrimaries:
            require_array_of(tx, caller, array_id)
            return _backups(backups.list_backups(tx, array_id))

        return await self.store.read(read)

    async def AddBackupPrimary(self, request: pb.AddBackupPrimaryRequest, call: Call) -> pb.BackupPrimaries:
        name, caller = id_of(request.member, "members", "member"), caller_of(call)
        if request.position < 0:
            raise invalid("position", "must not be negative")

        def add(tx: Transaction) -> pb.BackupPrimaries:
            require_agent_of_primary(tx, caller, get_member(tx, name).array_id)
            return _backups(backups.add_backup(tx, name, request.position))

        self.refuse_altered()
        return await self.mutations(call, request, add)

    async def MoveBackupPrimary(self, request: pb.MoveBackupPrimaryRequest, call: Call) -> pb.BackupPrimaries:
        name, caller = id_of(request.member, "members", "member"), caller_of(call)
        if request.position < 1:
            raise invalid("position", "a position from 1 is required")

        def move(tx: Transaction) -> pb.BackupPrimaries:
            require_agent_of_primary(tx, caller, get_member(tx, name).array_id)
            return _backups(backups.move_backup(tx, name, request.position))

        self.refuse_altered()
        return await self.mutations(call, request, move)

    async def RemoveBackupPrimary(self, request: pb.RemoveBackupPrimaryRequest, call: Call) -> pb.BackupPrimaries:
        array_id, caller = id_of(request.array, "arrays", "array"), caller_of(call)
        name = id_of(request.member, "members", "member") if request.member else None

        def remove(tx: Transaction) -> pb.BackupPrimaries:
            require_agent_of_primary(tx, caller, array_id)
            return _backups(backups.remove_backups(tx, array_id, name))

        self.refuse_altered()
        return await self.mutations(call, request, remove)


def _backups(members: Sequence[Member]) -> pb.BackupPrimaries:
    return pb.BackupPrimaries(members=[one.resource for one in members])


def _concerns(member: Member, array_id: str) -> bool:
    return not array_id or array_id in {member.array_id, member.joining_array_id, member.left_array_id}


def _messages(tx: Transaction, members: Sequence[Member]) -> list[pb.Member]:
    uids = [one.member_uid for one in members]
    reports, acknowledged = tx.roll.reports(uids), tx.roll.acknowledgements(uids)
    array_ids = {one.array_id for one in members if one.member_uid in reports}
    arrays = {array_id: (tx.roll.array(array_id), tx.roll.members_of(array_id)) for array_id in array_ids}
    found = []
    for one in members:
        report, differences = reports.get(one.member_uid), []
        array, present = arrays.get(one.array_id, (None, ()))
        if report is not None and array is not None:
            differences = disagreements(array, present, report)
            differences += ["two boots report in turn: the server was cloned"] if report.cloned else []
        found.append(member_message(one, report, acknowledged.get(one.member_uid), differences))
    return found


def _server(name: str, status: pb.Status) -> Server:
    return Server(
        name,
        names.check_address(status.address, "status.address"),
        names.check_external_names(tuple(status.external_names), "status.external_names"),
        names.check_release(status.release, "status.release"),
    )


def _report(member: Member, status: pb.Status, received_at_ms: int) -> Report:
    if not status.HasField("time"):
        raise invalid("status.time", "the server's clock is required")
    if len(status.peers) > _MOST_PEERS or len(status.view.members) > _MOST_PEERS:
        raise invalid("status", f"at most {_MOST_PEERS} peers and members")
    view = _view(status.view.SerializeToString(deterministic=True)) if status.HasField("view") else None
    sessions = status.sessions if status.HasField("sessions") else None
    return Report(
        member.member_uid,
        received_at_ms,
        status.time.seconds * 1000 + status.time.nanos // 1_000_000,
        names.check_boot_id(status.boot_id, "status.boot_id"),
        view,
        tuple(
            PeerReach(
                id_of(one.member, "members", "status.peers"), one.reachable, one.problem[:200], one.clock_difference_ms
            )
            for one in status.peers
        ),
        _optional(status.certificate, "certificates", "status.certificate"),
        _optional(status.authority, "authorities", "status.authority"),
        status.certificate_expire_time.seconds,
        sessions.running if sessions is not None else None,
        sessions.suspended if sessions is not None else None,
        stopped=status.stopped,
        booted_at_ms=received_at_ms,
    )


@functools.lru_cache(maxsize=64)
def _view(data: bytes) -> ArrayView:
    """A view of an array. Its members all report the same one, which is read once."""
    view = pb.ArrayView.FromString(data)
    return ArrayView(
        _optional(view.array, "arrays", "status.view.array"),
        _optional(view.primary, "members", "status.view.primary"),
        tuple(sorted(id_of(one, "members", "status.view.members") for one in view.members)),
        view.epoch,
        view.digest,
    )


def _optional(name: str, collection: str, field: str) -> str:
    return id_of(name, collection, field) if name else ""
