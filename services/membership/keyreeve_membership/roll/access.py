"""Which agent may act for which server; roles are checked before (the ACCESS tables)."""

from keyreeve.errors import AccessDenied
from keyreeve.identity import Caller, Role
from keyreeve_membership.roll.ports import RollTransaction


def require_agent_of(caller: Caller, *members: str) -> None:
    """Refuse agents of other servers than `members` (peer DNS names). Raises `AccessDenied`."""
    if caller.role is Role.MEMBER and caller.id.path[-1] not in members:
        raise AccessDenied(
            f"{caller} may act for its own server only, and this concerns {', '.join(members) or 'others'}",
            metadata={"members": ",".join(members)},
        )


def may_look_at(tx: RollTransaction, caller: Caller, array_id: str) -> bool:
    """Whether a caller is no agent, or that of a server that is in an array or joins it."""
    if caller.role is not Role.MEMBER:
        return True
    member = tx.roll.member(caller.id.path[-1])
    return member is not None and bool(array_id) and array_id in {member.array_id, member.joining_array_id}


def require_array_of(tx: RollTransaction, caller: Caller, array_id: str) -> None:
    """Refuse agents of servers that are neither in an array nor joining it. Raises `AccessDenied`."""
    if not may_look_at(tx, caller, array_id):
        raise AccessDenied(f"{caller} may look at its own array only", metadata={"array": array_id})


def require_agent_of_primary(tx: RollTransaction, caller: Caller, array_id: str) -> None:
    """Refuse agents of other servers than the primary of an array. Raises `AccessDenied`."""
    if caller.role is Role.MEMBER:
        require_agent_of(caller, *(one.name for one in tx.roll.members_of(array_id) if one.primary))
