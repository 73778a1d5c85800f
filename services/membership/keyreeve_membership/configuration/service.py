"""Use cases: look settings up, change them. Each runs in the caller's transaction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from keyreeve import errors
from keyreeve_membership.changes import rules
from keyreeve_membership.configuration.settings_list import (
    PEER_SECURITY,
    REPORT_INTERVAL,
    SETTINGS,
    Scope,
    check_value,
    kind_of,
)
from keyreeve_membership.roll.ports import Member, MemberState
from keyreeve_membership.roll.service import get_array, get_member
from keyreeve_membership.store.ports import Transaction


@dataclass(frozen=True)
class Configuration:
    """The use cases."""

    report_seconds: int
    """How often agents report unless their array says otherwise."""

    def settings_of(self, tx: Transaction, name: str, names: Sequence[str] = ()) -> dict[str, str]:
        """The settings of a server and of its array, all or the named ones."""
        array = get_array(tx, get_member(tx, name).array_id)
        known = {
            PEER_SECURITY: "1" if array.peer_security else "0",
            REPORT_INTERVAL: str(self.report_seconds),
        } | tx.settings.of(array.resource)
        return {wanted: known[kind_of(wanted).name] for wanted in (names or sorted(SETTINGS))}

    def interval(self, tx: Transaction, array_id: str) -> int:
        """How often the agents of an array report, in seconds."""
        return int(tx.settings.of(f"arrays/{array_id}").get(REPORT_INTERVAL, self.report_seconds))

    def update(
        self, tx: Transaction, names: Sequence[str], changed: Mapping[str, str], *, whole_array: bool
    ) -> list[Member]:
        """Change settings for servers or for the whole array of the first; return the servers that were named."""
        kinds = {name: check_value(name, value) for name, value in changed.items()}
        members = [get_member(tx, name) for name in names]
        concerned = tx.roll.members_of(members[0].array_id) if whole_array else members
        for name, value in changed.items():
            if kinds[name].scope is Scope.ARRAY:
                for array_id in {one.array_id for one in members}:
                    tx.settings.put(f"arrays/{array_id}", name, value)
            else:
                for member in concerned:
                    self._set_peer_security(tx, member, on=value == "1")
        return members

    def _set_peer_security(self, tx: Transaction, member: Member, *, on: bool) -> None:
        array = tx.roll.lock_array(member.array_id)
        assert array is not None, "a member's array exists"
        if array.peer_security is on:
            return
        if member.state is not MemberState.STANDALONE:
            raise errors.NotStandalone(
                f"{member.name} is {member.state} in {array.array_id}", metadata={"member": member.name}
            )
        rules.refuse_changing(array)
        report = tx.roll.report(member.member_uid)
        if report is None or not report.stopped:
            raise errors.ServerRunning(
                f"the programs of {member.name} are not reported as stopped", metadata={"member": member.name}
            )
        tx.roll.update_array(replace(array, peer_security=on))
