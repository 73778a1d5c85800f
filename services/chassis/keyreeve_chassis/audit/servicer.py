"""AuditService: access rules, and messages to reads of the log."""

import re
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from keyreeve.audit import record as records
from keyreeve.audit.log import Checkpoint, Link, Registration
from keyreeve.audit.record import Pairs, Record
from keyreeve.audit.v1 import audit_service_pb2 as pb
from keyreeve.audit.verifying import Witnessed
from keyreeve.errors import AuditRecordInvalid, AuditTampered, KeyreeveError
from keyreeve.identity import ALL_ROLES, INNER_SERVICE_ROLES, OPERATOR_ROLES, Role
from keyreeve_chassis.audit.log import SqlAuditLog, Verified
from keyreeve_chassis.audit.reading import Found, SignedBody
from keyreeve_chassis.guard.access import AccessRule, AccessRules, Freshness
from keyreeve_chassis.guard.call import Call, caller_of, invalid, peer_of
from keyreeve_chassis.guard.costly_reads import CostlyReads
from keyreeve_chassis.guard.paging import Pages
from keyreeve_chassis.idempotency.mutation import Mutations
from keyreeve_chassis.idempotency.ports import MutationTransaction
from keyreeve_chassis.trust_tables.ports import Alteration

_SERVICE = "/keyreeve.audit.v1.AuditService/"
_READERS = frozenset({Role.ADMIN, Role.AUDITOR})
_VERIFY_LINKS = 5_000
"""Commits that one call checks: about a second."""
_MOST_TARGETS = 20
_MOST_WITNESSED = 20
_MOST_PROBLEMS = 100
_VERB = re.compile(r"[a-z0-9_-]{1,64}( [a-z0-9_-]{1,64}){0,7}\Z")
_CODE = re.compile(r"[A-Z_]{2,32}\Z")

ACCESS: AccessRules = {
    _SERVICE + "ListAuditRecords": AccessRule(
        _READERS, freshness=Freshness.STRICT, records=("caller", "method", "code", "reason", "resource", "id")
    ),
    _SERVICE + "ListAuditEntries": AccessRule(_READERS, freshness=Freshness.STRICT),
    _SERVICE + "VerifyAuditChain": AccessRule(_READERS | INNER_SERVICE_ROLES, freshness=Freshness.TOLERANT),
    _SERVICE + "GetCheckpoint": AccessRule(ALL_ROLES, freshness=Freshness.EXEMPT),
    _SERVICE + "AppendVerbRecord": AccessRule(
        on_behalf=OPERATOR_ROLES, forwarded=True, freshness=Freshness.STRICT, records=("verb", "subject")
    ),
}


@dataclass(frozen=True)
class AuditServicer:
    """Serves AuditService."""

    log: SqlAuditLog
    mutations: Mutations[MutationTransaction]
    pages: Pages
    altered_tables: Callable[[], Awaitable[Sequence[Alteration]]] | None
    """Looks for altered trust tables; None when the service has no such tables."""
    costly: CostlyReads = field(default_factory=CostlyReads)

    async def ListAuditRecords(self, request: pb.ListAuditRecordsRequest, call: Call) -> pb.ListAuditRecordsResponse:
        since = request.start_time.ToMilliseconds() if request.HasField("start_time") else 0
        until = request.end_time.ToMilliseconds() if request.HasField("end_time") else None
        page = self.pages.open(call, request)
        position, _, seen = page.after.partition(":")
        found = await self.costly.read(
            call,
            lambda: self.log.page(
                _wanted(request, since, until),
                (int(position), int(seen)) if page.after else None,
                limit=page.size,
                newest_first=request.newest_first,
                since=since,
                until=until,
            ),
        )
        at_end = found.at_end
        return pb.ListAuditRecordsResponse(
            records=[_message(one) for one in found.records],
            next_page_token=page.next_token(
                None if at_end and request.newest_first else f"{found.next[0]}:{found.next[1]}"
            ),
            at_end=at_end,
        )

    async def ListAuditEntries(self, request: pb.ListAuditEntriesRequest, call: Call) -> pb.ListAuditEntriesResponse:
        page = self.pages.open(call, request)
        after, _, position = page.after.partition(":")
        start = (int(after), int(position)) if page.after else (_number(request.after_checkpoint), 0)
        most = page.size if request.page_size else 500
        entries, following = await self.costly.read(call, lambda: self.log.entries(*start, most))
        spki = await self.log.spki()
        return pb.ListAuditEntriesResponse(
            entries=[_entry(one, spki) for one in entries],
            next_page_token=page.next_token(None if following is None else f"{following[0]}:{following[1]}"),
        )

    async def VerifyAuditChain(self, request: pb.VerifyAuditChainRequest, call: Call) -> pb.VerifyAuditChainResponse:
        if len(request.witnessed) > _MOST_WITNESSED:
            raise invalid("witnessed", f"at most {_MOST_WITNESSED}")
        after = _number(request.after_checkpoint)
        if after:
            await self.log.signed(after)
        witnessed = [Witnessed(w.checkpoint, w.digest) for w in request.witnessed]
        found, altered = await self.costly.read(call, lambda: self._verify(after, witnessed))
        problems = [pb.AuditProblem(kind=p.kind, where=p.where, message=p.message) for p in found.problems]
        problems += [pb.AuditProblem(kind="table", where=one.place, message=str(one.problem)) for one in altered]
        return pb.VerifyAuditChainResponse(
            checkpoint=found.k,
            done=found.done,
            links=found.links,
            records=found.records,
            purged=found.purged,
            tail_links=found.tail_links,
            problems=problems[:_MOST_PROBLEMS],
        )

    async def _verify(self, after: int, witnessed: Sequence[Witnessed]) -> tuple[Verified, Sequence[Alteration]]:
        """Verify a part of the log, and with the last one the trust tables."""
        found = await self.log.verify(after, _VERIFY_LINKS, witnessed)
        if not found.done or self.altered_tables is None:
            return found, ()
        return found, await self.altered_tables()

    async def GetCheckpoint(self, request: pb.GetCheckpointRequest, call: Call) -> pb.SignedCheckpoint:
        signed = await self.log.signed(_number(request.checkpoint, "checkpoint"))
        proof: list[bytes] = []
        if request.consistent_with:
            old = await self.log.signed(_number(request.consistent_with, "consistent_with"))
            try:
                between = Checkpoint.decode(old.body), Checkpoint.decode(signed.body)
                proof = await self.costly.read(call, lambda: self.log.proof(*between))
            except LookupError as missing:
                raise AuditTampered(str(missing)) from None
        return pb.SignedCheckpoint(
            body=signed.body, signature=signed.signature, spki=await self.log.spki(), consistency_proof=proof
        )

    async def AppendVerbRecord(self, request: pb.AppendVerbRecordRequest, call: Call) -> pb.AppendVerbRecordResponse:
        head = _verb_head(request, call)
        return await self.mutations(
            call,
            request,
            lambda _: pb.AppendVerbRecordResponse(),
            record=lambda results: head + records.tail(request.code, records.clean(request.reason), results),
        )


def _verb_head(request: pb.AppendVerbRecordRequest, call: Call) -> bytes:
    """The head of one record for a gateway verb, on behalf of the operator."""
    if not _VERB.match(request.verb):
        raise _refused("verb", "words of lower-case letters, digits, - and _")
    if not _CODE.match(request.code):
        raise _refused("code", "the name of a gRPC status code")
    if len(request.targets) > _MOST_TARGETS:
        raise _refused("targets", f"at most {_MOST_TARGETS}")
    subject, caller = str(caller_of(call)), peer_of(call)
    if request.subject != subject:
        raise _refused("subject", f"the ticket is {subject}'s")
    prefix = records.prefix(
        call.method,
        str(caller),
        f"{caller.serial:x}",
        subject=subject,
        peer=records.clean(request.peer) or call.peer,
        tls=call.tls.version,
    )
    targets = (
        ("verb", request.verb),
        *((records.clean(t.field), records.clean(t.value)) for t in request.targets),
    )
    return records.head(prefix, time.time_ns() // 1_000_000, request.request_id, call.request_id, targets)


def _refused(field: str, why: str) -> KeyreeveError:
    return AuditRecordInvalid(f"{field}: {why}", metadata={"field": field})


def _number(number: int, field: str = "after_checkpoint") -> int:
    if number < 0:
        raise invalid(field, "checkpoints count from 1")
    return number


def _wanted(request: pb.ListAuditRecordsRequest, since: int, until: int | None) -> Callable[[Record, int], bool]:
    """Build the filter from the request."""

    def wanted(record: Record, db_time: int) -> bool:
        return (
            db_time >= since
            and (until is None or db_time < until)
            and (not request.caller or request.caller in (record.caller, record.subject))
            and (not request.method or record.method == request.method or record.method.endswith("/" + request.method))
            and (not request.code or record.code == request.code)
            and (not request.reason or record.reason == request.reason)
            and (not request.id or request.id in (record.request_id, record.call_id))
            and (not request.resource or any(request.resource == v for _, v in (*record.targets, *record.results)))
        )

    return wanted


def _message(found: Found) -> pb.AuditRecord:
    record = found.record
    message = pb.AuditRecord(
        position=found.position,
        place=found.place,
        method=record.method,
        caller=record.caller,
        credential=record.credential,
        subject=record.subject,
        peer=record.peer,
        tls=record.tls,
        request_id=record.request_id,
        call_id=record.call_id,
        targets=_fields(record.targets),
        code=record.code,
        reason=record.reason,
        results=_fields(record.results),
        calls=record.calls,
        record=found.body,
    )
    message.commit_time.FromMilliseconds(found.db_time)
    message.call_time.FromMilliseconds(record.time)
    return message


def _fields(pairs: Pairs) -> list[pb.AuditField]:
    return [pb.AuditField(field=field, value=value) for field, value in pairs]


def _entry(entry: Registration | Link | SignedBody, spki: bytes) -> pb.AuditEntry:
    match entry:
        case Registration(chain, restore_generation, writer, registered):
            return pb.AuditEntry(
                registration=pb.ChainRegistration(
                    chain=chain, restore_generation=restore_generation, writer=writer, registered=registered
                )
            )
        case Link():
            return pb.AuditEntry(link=pb.ChainLink(**entry._asdict()))
        case SignedBody(body, signature):
            return pb.AuditEntry(checkpoint=pb.SignedCheckpoint(body=body, signature=signature, spki=spki))
