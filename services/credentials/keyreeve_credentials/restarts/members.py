"""`restarts.ports.Boots` on the reports that members make to the membership service."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from keyreeve import aio
from keyreeve.context import Context
from keyreeve.values import MemberState
from keyreeve_credentials.restarts.ports import Boot

_CURRENT = frozenset({MemberState.MEMBER, MemberState.STANDALONE})


@dataclass(frozen=True)
class ReportedBoots:
    """Asks the membership service at an address, with this service's own certificate."""

    context: Context
    address: str

    async def present(self) -> Sequence[Boot]:
        """See `Boots.present`."""
        endpoints = {**self.context.endpoints, "membership": (self.address,)}
        async with aio.Client(replace(self.context, endpoints=endpoints)) as client:
            return [
                Boot(member.array.removeprefix("arrays/"), member.member_uid, member.report.status.boot_id)
                async for member in client.membership.members.list()
                if member.report is not None and member.state in _CURRENT
            ]
