"""Access rules: one for every method, default deny."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum

from keyreeve.identity import OPERATOR_ROLES, Role


class Freshness(Enum):
    """How recent the process's revocation data must be for a call; the value is the limit in seconds."""

    STRICT = 5.0
    """Secrets, issuance, structure: not even one more call by a removed caller."""
    TOLERANT = 600.0
    """Reads and renewal: they go on through an outage, with an alarm."""
    EXEMPT = float("inf")
    """Health, trust metadata and the caller feed itself: recovery must not depend on what has failed."""


@dataclass(frozen=True, slots=True)
class AccessRule:
    """The rule for one method."""

    roles: frozenset[Role] = frozenset()
    """The roles that may call it for themselves."""
    forwarded: bool = False
    """Run by another process: this one checks the call and hands the bytes of the request on."""
    anyone: bool = False
    """Open to every client, with or without an identity (health); excludes `roles`."""
    long_stream: bool = False
    """A stream that may stay open: needs no deadline, and its caller is verified again and again."""
    linger: float = 0.0
    """Seconds for which a long stream continues after its caller is no longer accepted, so that it can report that."""
    freshness: Freshness = Freshness.STRICT
    """How stale a view of revocations it tolerates; never asked of a method that is open to anyone."""

    batches: bool = False
    """Its requests hold many items or a part of a file: they may have as many bytes as the listener takes at all."""
    records: tuple[str, ...] = ("name", "parent")
    """The fields of the request whose values its audit record keeps, as paths such as `item.profile`; never a secret.

    Those of the standard that a request does not have are passed over.
    """
    reveals: bool = False
    """Its answer has a secret: refused, as changes are, while what must witness the audit does not."""
    unrecorded: bool = False
    """Leaves no audit record: health and reflection, which are asked all the time and tell nothing of the estate."""
    on_behalf: frozenset[Role] = frozenset()
    """The roles of a subject (`Call.subject`) on whose behalf a gateway may call it with a ticket."""

    def __post_init__(self) -> None:
        if self.anyone == bool(self.roles | self.on_behalf):
            raise ValueError("a row lists the roles that may call, or says anyone: exactly one of the two")
        if not self.on_behalf <= OPERATOR_ROLES:
            raise ValueError("a gateway calls on behalf of operators alone")
        if self.roles and not self.on_behalf <= self.roles:
            raise ValueError("nobody may do through a gateway what they may not do themselves")

    @property
    def through_gateways(self) -> "AccessRule":
        """The same rule, where the operators among its roles may also call through a gateway."""
        return replace(self, on_behalf=self.roles & OPERATOR_ROLES)


AccessRules = Mapping[str, AccessRule]
"""Full method name (`/package.Service/Method`) to its rule."""


def through_gateways(rules: AccessRules, *methods: str) -> AccessRules:
    """Return the rules, where these methods (the last parts of their names) may be called through a gateway."""
    names = {name.rpartition("/")[2]: name for name in rules}
    return {**rules, **{names[method]: rules[names[method]].through_gateways for method in methods}}
