"""The members of arrays."""

from collections.abc import AsyncGenerator, Sequence

from google.protobuf.message import Message

from keyreeve import membership_wire as wire
from keyreeve._async.calls import Caller
from keyreeve.membership.v1 import member_service_pb2 as pb
from keyreeve.membership_values import Instruction, Member, MemberEvent, MembersUpdate, PeerCertificate, Status
from keyreeve.request_ids import new_request_id

_SERVICE = "/keyreeve.membership.v1.MemberService"


class MemberClient:
    """The members; reached as `Client.membership.members`.

    Members and arrays may be named in full (`members/web-1.example.com`) or by their last part. `request_id` makes a
    mutation idempotent: one is made for each call unless given, and kept over its retries. Every method raises
    `keyreeve.errors` and takes a `timeout` in seconds over all its attempts.
    """

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def get(self, name: str, *, timeout: float | None = None) -> Member:
        """Look up a member, with its last report."""
        request = pb.GetMemberRequest(name=wire.member_name(name))
        return wire.from_member(await self._caller.unary(f"{_SERVICE}/GetMember", request, pb.Member, timeout))

    async def list(
        self, *, array: str = "", detached: bool = False, page_size: int = 100, timeout: float | None = None
    ) -> AsyncGenerator[Member, None]:
        """Iterate over the members, of one array or all, by name; `timeout` is for each page."""
        request = pb.ListMembersRequest(
            page_size=page_size, array=wire.array_name(array) if array else "", show_detached=detached
        )
        while True:
            method = f"{_SERVICE}/ListMembers"
            page = await self._caller.unary(method, request, pb.ListMembersResponse, timeout)
            for message in page.members:
                yield wire.from_member(message)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def history(
        self, name: str, *, page_size: int = 100, timeout: float | None = None
    ) -> AsyncGenerator[MemberEvent, None]:
        """Iterate over every change of the servers that have had a name, the oldest first; `timeout` is for each page."""
        request = pb.ListMemberEventsRequest(member=wire.member_name(name), page_size=page_size)
        while True:
            method = f"{_SERVICE}/ListMemberEvents"
            page = await self._caller.unary(method, request, pb.ListMemberEventsResponse, timeout)
            for message in page.events:
                yield wire.from_member_event(message)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def watch(self, *, array: str = "", after_revision: int = 0) -> AsyncGenerator[MembersUpdate, None]:
        """Iterate over the roll, of one array or all: as it is now, and each change.

        The stream is opened again whenever it ends, after the last revision that was received; outages are waited out. Only
        a failure before the first update, or one that is not transient, is raised.
        """
        request = pb.WatchMembersRequest(array=wire.array_name(array) if array else "", after_revision=after_revision)
        async for message in self._caller.follow(f"{_SERVICE}/WatchMembers", request, pb.MembersUpdate):
            request.after_revision = message.revision
            yield wire.from_members_update(message)

    async def report(self, name: str, status: Status, *, timeout: float | None = None) -> Instruction:
        """Report what a server says of itself; its agent does that."""
        request = pb.ReportStatusRequest(name=wire.member_name(name), status=wire.to_status(status))
        method = f"{_SERVICE}/ReportStatus"
        return wire.from_instruction(await self._caller.unary(method, request, pb.ReportStatusResponse, timeout))

    async def issue_peer_certificate(
        self, name: str, csr: bytes, *, request_id: str | None = None, timeout: float | None = None
    ) -> PeerCertificate:
        """Have the CA of the server's array issue a peer certificate; the server's agent asks for it."""
        request = pb.IssuePeerCertificateRequest(
            name=wire.member_name(name), csr=csr, request_id=request_id or new_request_id()
        )
        method = f"{_SERVICE}/IssuePeerCertificate"
        return wire.from_peer_certificate(await self._caller.unary(method, request, pb.PeerCertificate, timeout))

    async def quarantine(
        self, name: str, comment: str, *, request_id: str | None = None, timeout: float | None = None
    ) -> Member:
        """Take a dead secondary out of the count; `comment` is kept in its history."""
        request = pb.QuarantineMemberRequest(
            name=wire.member_name(name), comment=comment, request_id=request_id or new_request_id()
        )
        method = f"{_SERVICE}/QuarantineMember"
        return wire.from_member(await self._caller.unary(method, request, pb.Member, timeout))

    async def readmit(self, name: str, *, request_id: str | None = None, timeout: float | None = None) -> Member:
        """Take a quarantined member back, or a server that stands alone and was cloned."""
        request = pb.ReadmitMemberRequest(name=wire.member_name(name), request_id=request_id or new_request_id())
        return wire.from_member(await self._caller.unary(f"{_SERVICE}/ReadmitMember", request, pb.Member, timeout))

    async def remove(self, name: str, *, request_id: str | None = None, timeout: float | None = None) -> Member:
        """Remove a server that stands alone for good, with the CA of its array."""
        request = pb.RemoveMemberRequest(name=wire.member_name(name), request_id=request_id or new_request_id())
        return wire.from_member(await self._caller.unary(f"{_SERVICE}/RemoveMember", request, pb.Member, timeout))

    async def backup_primaries(self, array: str, *, timeout: float | None = None) -> Sequence[str]:
        """Return the backup primaries of an array, the first to be promoted first."""
        request = pb.ListBackupPrimariesRequest(array=wire.array_name(array))
        return await self._backups("ListBackupPrimaries", request, timeout)

    async def add_backup_primary(
        self, member: str, *, position: int = 0, request_id: str | None = None, timeout: float | None = None
    ) -> Sequence[str]:
        """Add a secondary to the backup primaries, at a position from 1 or (0) as the last."""
        request = pb.AddBackupPrimaryRequest(
            member=wire.member_name(member), position=position, request_id=request_id or new_request_id()
        )
        return await self._backups("AddBackupPrimary", request, timeout)

    async def move_backup_primary(
        self, member: str, position: int, *, request_id: str | None = None, timeout: float | None = None
    ) -> Sequence[str]:
        """Move a backup primary to a position from 1."""
        request = pb.MoveBackupPrimaryRequest(
            member=wire.member_name(member), position=position, request_id=request_id or new_request_id()
        )
        return await self._backups("MoveBackupPrimary", request, timeout)

    async def remove_backup_primary(
        self, array: str, member: str = "", *, request_id: str | None = None, timeout: float | None = None
    ) -> Sequence[str]:
        """Remove a backup primary of an array, or all without `member`."""
        request = pb.RemoveBackupPrimaryRequest(
            array=wire.array_name(array),
            member=wire.member_name(member) if member else "",
            request_id=request_id or new_request_id(),
        )
        return await self._backups("RemoveBackupPrimary", request, timeout)

    async def _backups(self, method: str, request: Message, timeout: float | None) -> Sequence[str]:
        return tuple((await self._caller.unary(f"{_SERVICE}/{method}", request, pb.BackupPrimaries, timeout)).members)
