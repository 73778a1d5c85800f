"""Backup primaries: the order in which secondaries would become the primary. Each runs in the caller's transaction."""

from dataclasses import replace

from keyreeve import errors
from keyreeve_membership.roll.ports import Array, Member, MemberState, RollTransaction
from keyreeve_membership.roll.service import get_array, get_member


def list_backups(tx: RollTransaction, array_id: str) -> list[Member]:
    """The backup primaries of an array in order. Raises `ArrayNotFound`."""
    found = [tx.roll.member_of(uid) for uid in get_array(tx, array_id).backups]
    return [one for one in found if one is not None]


def add_backup(tx: RollTransaction, name: str, position: int) -> list[Member]:
    """Add a secondary at a position from 1; 0: the last."""
    member, array = _locked(tx, name)
    if member.primary or member.state not in {MemberState.MEMBER, MemberState.QUARANTINED}:
        raise errors.NotSecondary(f"{name} is no secondary ({member.state})", metadata={"member": name})
    if member.member_uid in array.backups:
        raise errors.BackupPrimaryExists(f"{name} is a backup primary", metadata={"member": name})
    return _store(tx, array, _placed(array.backups, member.member_uid, position))


def move_backup(tx: RollTransaction, name: str, position: int) -> list[Member]:
    """Move a backup primary to a position from 1."""
    member, array = _locked(tx, name)
    return _store(tx, array, _placed(_without(array, member), member.member_uid, position))


def remove_backups(tx: RollTransaction, array_id: str, name: str | None) -> list[Member]:
    """Remove one backup primary, or all."""
    get_array(tx, array_id)
    array = tx.roll.lock_array(array_id)
    assert array is not None, "it has just been found"
    return _store(tx, array, () if name is None else _without(array, get_member(tx, name)))


def _locked(tx: RollTransaction, name: str) -> tuple[Member, Array]:
    member = get_member(tx, name)
    array = tx.roll.lock_array(member.array_id)
    assert array is not None, "a member's array exists"
    return member, array


def _without(array: Array, member: Member) -> tuple[str, ...]:
    if member.member_uid not in array.backups:
        raise errors.BackupPrimaryNotFound(f"{member.name} is no backup primary", metadata={"member": member.name})
    return tuple(uid for uid in array.backups if uid != member.member_uid)


def _placed(backups: tuple[str, ...], uid: str, position: int) -> tuple[str, ...]:
    place = position - 1 if position > 0 else len(backups)
    return (*backups[:place], uid, *backups[place:])


def _store(tx: RollTransaction, array: Array, backups: tuple[str, ...]) -> list[Member]:
    tx.roll.update_array(replace(array, backups=backups))
    return list_backups(tx, array.array_id)
