"""`policies.ports.PastReads` on the service's audit log."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from keyreeve.audit.record import Record
from keyreeve.errors import FieldInvalid
from keyreeve.identity import SpiffeId
from keyreeve_chassis.audit.log import SqlAuditLog
from keyreeve_credentials.entries.names import parse_resource
from keyreeve_credentials.policies.ports import PastRead
from keyreeve_credentials.policies.rules import Access, Standing

_REASONS = frozenset({"", "POLICY_DENIED"})
_SERVER = "launch.application_server"
"""Field of the record of ResolveCredential: its caller has to be allowed to launch there, too."""
_MOST_PAGES = 100
"""Of the log that are looked through for one simulation."""


@dataclass(frozen=True)
class AuditedReads:
    """The reads that `AccessCheck.check_read` has told the audit log of."""

    log: SqlAuditLog

    async def last(self, limit: int) -> Sequence[PastRead]:
        """See `PastReads.last`."""
        found: list[PastRead] = []
        start: tuple[int, int] | None = None
        for _ in range(_MOST_PAGES):
            page = await self.log.page(
                lambda record, _time: _read_of(record, 0) is not None,
                start,
                limit=limit - len(found),
                newest_first=True,
            )
            for one in page.records:
                read = _read_of(one.record, one.db_time)
                if read is not None:
                    found.append(read)
            if page.at_end or len(found) >= limit:
                break
            start = page.next
        return found


def _read_of(record: Record, time: int) -> PastRead | None:
    """The read of a record; None for records of other calls, and of reads that failed otherwise."""
    told = dict(record.targets)
    if "standing" not in told or record.reason not in _REASONS:
        return None
    try:
        path = SpiffeId.parse(record.caller).path
        access = Access(
            "/".join(path),
            Standing(told["standing"]),
            told["array"].removeprefix("arrays/"),
            told["owner"],
            told.get("resource", ""),
            told["purpose"],
        )
        server = told.get(_SERVER)
        launched = [] if server is None else [replace(access, resource=parse_resource(server).text)]
    except (ValueError, KeyError, FieldInvalid):
        return None
    return PastRead(record.caller, (access, *launched), not record.reason, time)
