"""The audit log of a service, and the proof that it has not been changed."""

from collections.abc import AsyncGenerator, Iterable
from datetime import UTC, datetime

from keyreeve._async.calls import Caller
from keyreeve.audit.log import Link, Registration
from keyreeve.audit.record import Record
from keyreeve.audit.v1 import audit_service_pb2 as pb
from keyreeve.audit.values import AuditReport, LoggedRecord, RecordPage, SignedCheckpoint
from keyreeve.audit.verifying import Problem, Segment, Witnessed
from keyreeve.request_ids import new_request_id

_SERVICE = "/keyreeve.audit.v1.AuditService"


class AuditClient:
    """The audit log of a service.

    Reached as `Client.audit` and `Client.service(name).audit`.

    Every method raises `keyreeve.errors` and takes a `timeout` in seconds over all attempts of each of its calls.
    """

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def page(
        self,
        *,
        token: str = "",
        newest_first: bool = False,
        caller: str = "",
        method: str = "",
        code: str = "",
        reason: str = "",
        resource: str = "",
        id: str = "",  # noqa: A002  # as the contract has it
        since: datetime | None = None,
        until: datetime | None = None,
        page_size: int = 0,
        timeout: float | None = None,
    ) -> RecordPage:
        """Return one page of records; records appear within a second of their call.

        A page may be short or empty before the end. `method` may be the last part of its name. `id` is a `request_id` or
        the id of a call. With the oldest first, the token of the last page can be used later to get newer records.
        """
        request = pb.ListAuditRecordsRequest(
            page_size=page_size,
            page_token=token,
            newest_first=newest_first,
            caller=caller,
            method=method,
            code=code,
            reason=reason,
            resource=resource,
            id=id,
        )
        if since is not None:
            request.start_time.FromDatetime(since)
        if until is not None:
            request.end_time.FromDatetime(until)
        page = await self._caller.unary(f"{_SERVICE}/ListAuditRecords", request, pb.ListAuditRecordsResponse, timeout)
        return RecordPage(tuple(_logged(m) for m in page.records), page.next_page_token, page.at_end)

    async def list(
        self,
        *,
        newest_first: bool = False,
        caller: str = "",
        method: str = "",
        code: str = "",
        reason: str = "",
        resource: str = "",
        id: str = "",  # noqa: A002  # as the contract has it
        since: datetime | None = None,
        until: datetime | None = None,
        timeout: float | None = None,
    ) -> AsyncGenerator[LoggedRecord, None]:
        """Iterate over all matching records, to the present end of the log."""
        token = ""
        while True:
            page = await self.page(
                token=token,
                newest_first=newest_first,
                caller=caller,
                method=method,
                code=code,
                reason=reason,
                resource=resource,
                id=id,
                since=since,
                until=until,
                timeout=timeout,
            )
            for record in page.records:
                yield record
            if page.at_end:
                return
            token = page.token

    async def segments(
        self, *, after_checkpoint: int = 0, timeout: float | None = None
    ) -> AsyncGenerator[Segment, None]:
        """Iterate over the log, checkpoint by checkpoint.

        `keyreeve.audit.verifying.Verifier` verifies the segments.
        """
        request = pb.ListAuditEntriesRequest(after_checkpoint=after_checkpoint)
        registrations: dict[bytes, Registration] = {}
        links: list[Link] = []
        while True:
            method = f"{_SERVICE}/ListAuditEntries"
            page = await self._caller.unary(method, request, pb.ListAuditEntriesResponse, timeout)
            for entry in page.entries:
                match entry.WhichOneof("entry"):
                    case "registration":
                        new = entry.registration
                        registrations[new.chain] = Registration(
                            new.chain, new.restore_generation, new.writer, new.registered
                        )
                    case "link":
                        links.append(_link(entry.link))
                    case "checkpoint":
                        signed = entry.checkpoint
                        yield Segment(signed.body, signed.signature, tuple(registrations.values()), tuple(links))
                        registrations, links = {}, []
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def verify(
        self, *, after_checkpoint: int = 0, witnessed: Iterable[Witnessed] = (), timeout: float | None = None
    ) -> AuditReport:
        """Have the service verify the whole log in its tables."""
        request = pb.VerifyAuditChainRequest(
            after_checkpoint=after_checkpoint,
            witnessed=[pb.WitnessedCheckpoint(checkpoint=w.k, digest=w.digest) for w in witnessed],
        )
        links = records = purged = 0
        problems: list[Problem] = []
        while True:
            method = f"{_SERVICE}/VerifyAuditChain"
            found = await self._caller.unary(method, request, pb.VerifyAuditChainResponse, timeout)
            links, records, purged = links + found.links, records + found.records, purged + found.purged
            problems += [Problem(p.kind, p.where, p.message) for p in found.problems]
            if found.done or problems:
                return AuditReport(found.checkpoint, links, records, purged, found.tail_links, tuple(problems))
            request.after_checkpoint = found.checkpoint

    async def checkpoint(
        self, k: int = 0, *, consistent_with: int = 0, timeout: float | None = None
    ) -> SignedCheckpoint:
        """Return checkpoint `k`; 0 is the newest.

        It comes with a consistency proof from the checkpoint `consistent_with`, unless that is 0.
        """
        request = pb.GetCheckpointRequest(checkpoint=k, consistent_with=consistent_with)
        found = await self._caller.unary(f"{_SERVICE}/GetCheckpoint", request, pb.SignedCheckpoint, timeout)
        return SignedCheckpoint(found.body, found.signature, found.spki, tuple(found.consistency_proof))

    async def append_verb_record(
        self,
        verb: str,
        subject: str,
        *,
        code: str = "OK",
        reason: str = "",
        peer: str = "",
        targets: Iterable[tuple[str, str]] = (),
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> None:
        """Append the record of a legacy verb that the gateway has run for `subject`."""
        request = pb.AppendVerbRecordRequest(
            verb=verb,
            subject=subject,
            peer=peer,
            code=code,
            reason=reason,
            targets=[pb.AuditField(field=field, value=value) for field, value in targets],
            request_id=request_id or new_request_id(),
        )
        await self._caller.unary(f"{_SERVICE}/AppendVerbRecord", request, pb.AppendVerbRecordResponse, timeout)


def _logged(message: pb.AuditRecord) -> LoggedRecord:
    return LoggedRecord(
        position=message.position,
        place=message.place,
        committed_at=message.commit_time.ToDatetime(UTC),
        called_at=message.call_time.ToDatetime(UTC),
        record=Record.decode(message.record),
        body=message.record,
    )


def _link(message: pb.ChainLink) -> Link:
    bodies = message.bodies if message.HasField("bodies") else None
    return Link(message.chain, message.n, message.db_time, message.leaves, bodies, message.link)
