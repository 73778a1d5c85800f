"""Use cases of the roll: register servers, look them up, take their reports. Each runs in the caller's transaction."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace

from keyreeve import errors
from keyreeve_membership.authorities.ports import ArrayAuthority
from keyreeve_membership.epochs.bundles import next_epoch
from keyreeve_membership.epochs.ports import AuthorityUse, BundleAuthority
from keyreeve_membership.roll.digests import sha256
from keyreeve_membership.roll.ports import (
    Acknowledgement,
    Array,
    ArrayState,
    Member,
    MemberState,
    Report,
    RollTransaction,
)
from keyreeve_membership.store.ports import Transaction


@dataclass(frozen=True, slots=True)
class Server:
    """A server that enters the roll."""

    name: str
    address: str
    external_names: tuple[str, ...]
    release: str


@dataclass(frozen=True)
class Roll:
    """The use cases."""

    now: Callable[[], int]
    """Seconds since 1970."""
    new_uid: Callable[[], str] = lambda: uuid.uuid4().hex

    def refuse_known(self, tx: RollTransaction, array_id: str, member: str) -> None:
        """Raise `ArrayExists` or `MemberExists`."""
        if tx.roll.array(array_id) is not None:
            raise errors.ArrayExists(f"there is an array {array_id!r}", metadata={"array": array_id})
        if tx.roll.member(member) is not None:
            raise errors.MemberExists(f"{member} is in the roll", metadata={"member": member})

    def create_array(
        self,
        tx: Transaction,
        array_id: str,
        server: Server,
        authority: ArrayAuthority,
        *,
        peer_security: bool,
        actor: str,
    ) -> Array:
        """Register a server as the primary of an array of one. Raises `ArrayExists`, `MemberExists`."""
        self.refuse_known(tx, array_id, server.name)
        now = self.now()
        array = self.new_array(tx, array_id, authority, peer_security=peer_security)
        tx.roll.put_member(
            Member(
                self.new_uid(),
                server.name,
                array_id,
                "",
                MemberState.STANDALONE,
                primary=True,
                address=server.address,
                external_names=server.external_names,
                release=server.release,
                created_at=now,
            ),
            "registered",
            actor,
        )
        return array

    def new_array(self, tx: Transaction, array_id: str, authority: ArrayAuthority, *, peer_security: bool) -> Array:
        """Insert an array without members, and its first epoch."""
        now = self.now()
        array = Array(
            array_id,
            self.new_uid(),
            ArrayState.ACTIVE,
            authority.authority_id,
            sha256(authority.certificate_der),
            epoch=1,
            peer_security=peer_security,
            change="",
            order_number=1,
            order_step=1,
            backups=(),
            created_at=now,
        )
        tx.roll.add_array(array)
        tx.epochs.add(
            next_epoch(
                None,
                array_id,
                [BundleAuthority(authority.authority_id, authority.certificate_der, AuthorityUse.ISSUE)],
                restore_generation=tx.epochs.restore_generation(),
                rotation_id="",
                now=now,
            )
        )
        return array

    def report(self, tx: RollTransaction, member: Member, report: Report) -> Report:
        """Store a server's report. Raises `ClonedMember` when a boot reports that another one has replaced."""
        before = tx.roll.report_facts([member.member_uid]).get(member.member_uid)
        stored = report
        if before is not None and report.boot_id == before.boot_id:
            stored = replace(
                report, former_boot_id=before.former_boot_id, booted_at_ms=before.booted_at_ms, cloned=before.cloned
            )
        elif before is not None:
            # A boot that was replaced reports again: two servers have one identity.
            cloned = before.cloned or report.boot_id == before.former_boot_id
            stored = replace(report, former_boot_id=before.boot_id, booted_at_ms=report.received_at_ms, cloned=cloned)
        tx.roll.put_report(stored)
        return stored

    def update_server(self, tx: RollTransaction, member: Member, server: Server, actor: str) -> Member:
        """Store what a server says of itself, if that has changed."""
        said = replace(member, address=server.address, external_names=server.external_names, release=server.release)
        return member if said == member else tx.roll.put_member(said, "described", actor)

    def issuer_of(self, tx: RollTransaction, name: str) -> tuple[Member, str]:
        """A server, and the CA that its peer certificate is to be from.

        Raises `MemberNotFound`, `MemberStateWrong`.
        """
        member = get_member(tx, name)
        array = get_array(tx, member.joining_array_id or member.array_id)
        if not member.counted:
            raise errors.MemberStateWrong(f"{name} is {member.state}", metadata={"member": name, "state": member.state})
        if not array.peer_security:
            raise errors.MemberStateWrong(
                f"peer security is off in {array.array_id}", metadata={"member": name, "state": member.state}
            )
        return member, array.authority_id

    def acknowledge(self, tx: Transaction, name: str, array_id: str, *, boot_id: str, epoch: int, digest: bytes) -> int:
        """Store that a server has loaded an epoch; return the newest epoch of the array.

        Raises `MemberNotFound`, `ArrayNotFound`, `EpochNotFound`, `DigestMismatch`, `ClonedMember`.
        """
        member = get_member(tx, name)
        if array_id not in {member.array_id, member.joining_array_id}:
            raise errors.ArrayNotFound(
                f"{name} is not in the array {array_id[:80]!a}", metadata={"array": array_id[:80]}
            )
        found = tx.epochs.get(array_id, epoch)
        if found is None:
            raise errors.EpochNotFound(f"{array_id} has no epoch {epoch}", metadata={"epoch": str(epoch)})
        if found.digest != digest:
            raise errors.DigestMismatch(
                f"{name} has loaded something else as epoch {epoch} of {array_id}", metadata={"epoch": str(epoch)}
            )
        report = tx.roll.report_facts([member.member_uid]).get(member.member_uid)
        if report is not None and (report.cloned or report.former_boot_id == boot_id):
            raise errors.ClonedMember(f"two boots of {name} report in turn", metadata={"member": name})
        tx.roll.put_acknowledgement(Acknowledgement(member.member_uid, array_id, boot_id, epoch, digest, self.now()))
        return get_array(tx, array_id).epoch


def get_array(tx: RollTransaction, array_id: str) -> Array:
    """An array. Raises `ArrayNotFound`."""
    found = tx.roll.array(array_id)
    if found is None:
        raise errors.ArrayNotFound(f"there is no array {array_id[:80]!a}", metadata={"array": array_id[:80]})
    return found


def get_member(tx: RollTransaction, name: str) -> Member:
    """The server that has a name now. Raises `MemberNotFound`."""
    found = tx.roll.member(name)
    if found is None:
        raise errors.MemberNotFound(f"{name[:253]!a} is not in the roll", metadata={"member": name[:253]})
    return found
