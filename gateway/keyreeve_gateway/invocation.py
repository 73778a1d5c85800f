"""One call of a verb: what it is given, and what it is carried out with."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from keyreeve_gateway.grammar.parsed import Parsed
from keyreeve_gateway.ports import Console, Services
from keyreeve_gateway.settings import LegacySettings
from keyreeve_gateway.text import last_part

if TYPE_CHECKING:
    from keyreeve.membership_values import Member


class CommandFailed(Exception):
    """The command was not carried out; the text says why."""


@dataclass(frozen=True, slots=True)
class Invocation:
    """One call of a verb."""

    parsed: Parsed
    console: Console
    services: Services
    settings: LegacySettings
    local_server: str
    """Peer DNS name of "this server"."""
    now: Callable[[], datetime]
    found: dict[str, str] = field(default_factory=dict)
    """What earlier lines of a batch have found out: the array of a server."""

    async def member(self, name: str = "") -> "Member":
        """The member of this peer DNS name, by default this server."""
        return await self.services.membership.members.get(name or self.local_server)

    async def array(self, server: str = "") -> str:
        """Name of the array that the command is for, or of a server's, without `arrays/`."""
        if self.settings.array:
            return self.settings.array
        name = server or self.local_server
        if name not in self.found:
            self.found[name] = last_part((await self.member(name)).array)
        return self.found[name]
