"""Rules that compare what servers say of their array with the roll; no I/O."""

from collections.abc import Mapping, Sequence

from keyreeve_membership.roll.ports import Array, Member, MemberState, Report

_IN_VIEW = {MemberState.STANDALONE, MemberState.JOINING, MemberState.MEMBER, MemberState.DETACHING}


def disagreements(array: Array, members: Sequence[Member], report: Report) -> list[str]:
    """How a server's view of its array differs from the roll, one text for each difference."""
    view, found = report.view, []
    if view is None:
        return []
    counted = [one for one in members if one.state in _IN_VIEW]
    primary = next((one.name for one in counted if one.primary), "")
    present = {one.name for one in counted}
    if view.array != array.array_id:
        return [f"array: {view.array or 'none'} there, {array.array_id} here"]
    if view.primary != primary:
        found.append(f"primary: {view.primary or 'none'} there, {primary or 'none'} here")
    if missing := sorted(present - set(view.members)):
        found.append(f"not there: {', '.join(missing)}")
    if unknown := sorted(set(view.members) - present):
        found.append(f"only there: {', '.join(unknown)}")
    if view.epoch != array.epoch:
        found.append(f"epoch: {view.epoch} there, {array.epoch} here")
    return found


def who_disagrees(array: Array, members: Sequence[Member], reports: Mapping[str, Report]) -> dict[str, list[str]]:
    """The members whose last report differs from the roll, with the differences; members without a view agree."""
    found = {
        one.name: disagreements(array, members, reports[one.member_uid])
        for one in members
        if one.member_uid in reports and one.state is not MemberState.QUARANTINED
    }
    return {name: differences for name, differences in found.items() if differences}
