"""Carry out rotations, a step at a time. Each transition is one transaction under the array's lock and the lease.

What a step orders from the CA may be repeated, and is ordered before the transition is stored; so any process may die anywhere,
and the next leader goes on.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from keyreeve import errors
from keyreeve_chassis.database.ports import Store
from keyreeve_chassis.leases.ports import LeaseLost
from keyreeve_chassis.operations.ports import Operation, OperationState, Waiting
from keyreeve_chassis.processes import failpoints
from keyreeve_membership.authorities.orders import altered_operation, order_of, require_unaltered
from keyreeve_membership.authorities.ports import ArrayAuthorities, ArrayAuthority, Order
from keyreeve_membership.changes import progress
from keyreeve_membership.changes.progress import end, move, publish_members, release
from keyreeve_membership.changes.quarantine import put_in_quarantine
from keyreeve_membership.changes.service import lock
from keyreeve_membership.epochs.bundles import next_epoch
from keyreeve_membership.epochs.ports import AuthorityUse, BundleAuthority
from keyreeve_membership.peers.ports import PeerChecks
from keyreeve_membership.roll.digests import sha256
from keyreeve_membership.roll.ports import Member
from keyreeve_membership.roll.service import get_array
from keyreeve_membership.rotations import machine
from keyreeve_membership.rotations.machine import Progress, Wait
from keyreeve_membership.rotations.ports import Phase, Rotation, RotationMember
from keyreeve_membership.rotations.progress import RotationState, read_state
from keyreeve_membership.rotations.service import Rotations, get_rotation, move_primary
from keyreeve_membership.store.ports import Transaction

_POINTS = {
    Phase.PREPARED: failpoints.register(
        "membership.rotation.introduced", "The new CA is introduced; the epoch with it is not published."
    ),
    Phase.DISTRIBUTED: failpoints.register(
        "membership.rotation.activating", "The CA lets the new authority issue; membership does not use it."
    ),
    Phase.ACTIVATED: failpoints.register(
        "membership.rotation.reissued", "Superseded certificates are revoked; the phase is not stored."
    ),
    Phase.REISSUED: failpoints.register(
        "membership.rotation.distrusting", "Nothing needs the old CA; the epoch without it is not published."
    ),
    Phase.DISTRUSTED: failpoints.register(
        "membership.rotation.destroyed", "The old CA's key is destroyed; the rotation has not ended."
    ),
    Phase.ROLLED_BACK: failpoints.register(
        "membership.rotation.undone", "The new CA's key is destroyed; the rotation has not ended."
    ),
}

_CHECKS_AT_ONCE = 16
"""Members whose peer ports are checked at the same time: a dead one takes seconds."""


@dataclass(frozen=True)
class RotationSteps:
    """The steps of one rotation."""

    rotations: Rotations
    authorities: ArrayAuthorities
    peers: PeerChecks
    now: Callable[[], int]

    async def step(self, store: Store[Transaction], operation: Operation) -> float:
        """Do what is next; return the seconds to rest."""
        rotation_id = operation.arguments["rotation"]
        found = await store.read(lambda tx: tx.operations.get(operation.operation_id))
        state = await store.read(lambda tx: read_state(tx, get_rotation(tx, rotation_id)))
        if rotation_id != operation.operation_id or state.rotation.ended_at is not None:
            raise altered_operation(operation)
        if found is not None and found.cancel_requested and machine.may_roll_back(state.rotation):
            await store.write(lambda tx: self.rotations.roll_back(tx, rotation_id, operation.creator))
            return 0.0
        try:
            return await self._advance(store, operation, state)
        except (errors.Unavailable, LeaseLost):
            raise
        except errors.KeyreeveError as failure:
            # Nothing is undone by itself: a person reads why, and rolls back or removes the cause.
            told = Waiting(state.rotation.resource, f"{failure.reason}: {failure.message}"[:300], self.now())
            await store.write(lambda tx: move(tx, operation, self.now(), phase=state.rotation.phase, waiting=(told,)))
            return progress.WAIT_SECONDS * 4

    async def _advance(self, store: Store[Transaction], operation: Operation, state: RotationState) -> float:
        rotation = state.rotation
        match rotation.phase:
            case Phase.PREPARED:
                await self._distribute(store, operation, state)
                return 0.0
            case Phase.DISTRIBUTED:
                await self._check_peers(store, state)
            case Phase.DISTRUSTED:
                await store.read(require_unaltered)
                await self.authorities.retire(await self._order(store, rotation), rotation.old_authority_id)
        state = await store.read(lambda tx: read_state(tx, get_rotation(tx, rotation.rotation_id)))
        if state.rotation.step != rotation.step:
            return 0.0
        waiting = machine.waits(state.rotation, state.progress, secured=state.array.peer_security)
        if waiting:
            await self._wait(store, operation, state, waiting)
            return progress.WAIT_SECONDS
        return await self._leave_phase(store, operation, state)

    async def _leave_phase(self, store: Store[Transaction], operation: Operation, state: RotationState) -> float:
        """Every counted member is ready."""
        rotation = state.rotation
        await store.read(require_unaltered)
        match rotation.phase:
            case Phase.DISTRIBUTED:
                made = await self.authorities.activate(await self._order(store, rotation), rotation.new_authority_id)
                failpoints.hit(_POINTS[rotation.phase])
                await store.write(lambda tx: self._activate(tx, operation, rotation, made))
            case Phase.ACTIVATED:
                for member in state.members:
                    await self.authorities.revoke_peer(rotation.old_authority_id, member.name, superseded=True)
                await self.authorities.revoke_checks(rotation.old_authority_id)
                failpoints.hit(_POINTS[rotation.phase])
                await store.write(lambda tx: self._follow(tx, operation, rotation, Phase.REISSUED))
            case Phase.REISSUED:
                left = await self.authorities.count_valid(rotation.old_authority_id)
                if left and not rotation.old_certificates_waived:
                    await self._wait_for_certificates(store, operation, rotation, left)
                    return progress.WAIT_SECONDS * 4
                if unchanged := await self._present_no_new(store, state):
                    await self._wait(store, operation, state, unchanged)
                    return progress.WAIT_SECONDS * 4
                failpoints.hit(_POINTS[rotation.phase])
                await store.write(lambda tx: self._distrust(tx, operation, rotation))
            case Phase.DISTRUSTED:
                await self.authorities.destroy(await self._order(store, rotation), rotation.old_authority_id)
                failpoints.hit(_POINTS[rotation.phase])
                await store.write(lambda tx: self._end(tx, operation, rotation, OperationState.SUCCEEDED))
            case Phase.ROLLED_BACK:
                await self._undo(store, operation, rotation)
        return 0.0

    async def _distribute(self, store: Store[Transaction], operation: Operation, state: RotationState) -> None:
        """Create and introduce the new CA, and publish the epoch with both."""
        rotation = state.rotation
        order, new = await self._order(store, rotation), rotation.new_authority_id
        number = new.rpartition("-")[2]
        await self.authorities.create(order, new, f"Array {rotation.array_id} {number}", rotation.key_type)
        made = await self.authorities.introduce(order, new)
        failpoints.hit(_POINTS[rotation.phase])

        def distribute(tx: Transaction) -> None:
            before = tx.epochs.newest(rotation.array_id)
            assert before is not None, "an array is made with its first epoch"
            both = [*before.authorities, BundleAuthority(new, made.certificate_der, AuthorityUse.CHECK)]
            epoch = self._publish(tx, rotation, both)
            after = replace(machine.enter_phase(rotation, Phase.DISTRIBUTED, self.now()), epoch=epoch)
            self._store(tx, operation, rotation, after)

        await store.write(distribute)

    async def _check_peers(self, store: Store[Transaction], state: RotationState) -> None:
        """Ping the peer ports of members that say that they are ready, with certificates of the new CA."""
        rotation = state.rotation
        if not state.array.peer_security:
            return
        epoch = await store.read(lambda tx: tx.epochs.get(rotation.array_id, rotation.epoch))
        assert epoch is not None, "it was published with the phase"
        trusted = [one.certificate_der for one in epoch.authorities]
        limit = asyncio.Semaphore(_CHECKS_AT_ONCE)

        async def check(member: Member) -> RotationMember | None:
            async with limit:
                answer = await self.peers.check(
                    member.name, member.address, authority_id=rotation.new_authority_id, trusted_der=trusted
                )
            mine = state.known.get(member.member_uid, RotationMember(rotation.rotation_id, member.member_uid))
            answer = answer.of_boot(state.boots[member.member_uid])
            boot_id = answer.boot_id if not answer.problem else ""
            waiting = f"answer on its peer port: {answer.problem}"[:300] if answer.problem else ""
            since = self.now() if waiting != mine.waiting else mine.waiting_since
            checked = replace(mine, checked_boot_id=boot_id, waiting=waiting, waiting_since=since)
            return checked if checked != mine else None

        ready = [
            member
            for member, found in zip(state.members, state.progress, strict=True)
            if machine.needs_peer_check(rotation, found)
        ]
        rows = [row for row in await asyncio.gather(*map(check, ready)) if row is not None]
        if rows:
            await store.write(lambda tx: _put_checks(tx, rotation.rotation_id, rows))

    async def _present_no_new(self, store: Store[Transaction], state: RotationState) -> list[Wait]:
        """The members whose peer ports present no certificate of the new CA, whatever their agents report."""
        rotation = state.rotation
        epoch = await store.read(lambda tx: tx.epochs.newest(rotation.array_id))
        assert epoch is not None, "an array is made with its first epoch"
        new = [one.certificate_der for one in epoch.authorities if one.authority_id == rotation.new_authority_id]
        limit = asyncio.Semaphore(_CHECKS_AT_ONCE)

        async def look(member: Member) -> Wait | None:
            async with limit:
                answer = await self.peers.check(
                    member.name, member.address, authority_id=rotation.new_authority_id, trusted_der=new
                )
            what = f"present a certificate of {rotation.new_authority_id} at its peer port: {answer.problem}"
            return Wait(member.member_uid, member.name, what[:300]) if answer.problem else None

        dialed = [
            member
            for member, found in zip(state.members, state.progress, strict=True)
            if state.array.peer_security and not found.waived
        ]
        return [one for one in await asyncio.gather(*map(look, dialed)) if one is not None]

    async def _wait(
        self, store: Store[Transaction], operation: Operation, state: RotationState, waiting: Sequence[Wait]
    ) -> None:
        """Store what it waits for, or go on without the late members in an emergency."""
        rotation, now = state.rotation, self.now()
        late = machine.to_quarantine(rotation, waiting, state.progress, quarantined=state.quarantined, now=now)
        problems = {uid: row.waiting for uid, row in state.known.items()}

        def write(tx: Transaction) -> None:
            for one in late:
                member = tx.roll.member_of(one.member_uid)
                if member is not None and member.counted:
                    put_in_quarantine(tx, member, rotation.resource, one.what, now)
                    known = tx.rotations.members(rotation.rotation_id).get(one.member_uid)
                    row = known or RotationMember(rotation.rotation_id, one.member_uid)
                    tx.rotations.put_member(replace(row, quarantined=True))
            told = tuple(
                Waiting(f"members/{one.name}", machine.told(one.what, problems.get(one.member_uid, "")), now)
                for one in waiting
                if one not in late
            )
            done = len(state.progress) - len(waiting)
            move(tx, operation, now, phase=rotation.phase, done=done, waiting=told)

        await store.write(write)

    async def _wait_for_certificates(
        self, store: Store[Transaction], operation: Operation, rotation: Rotation, left: int
    ) -> None:
        def write(tx: Transaction) -> None:
            if left != rotation.old_certificates:
                self.rotations.store(tx, rotation, replace(rotation, old_certificates=left, updated_at=self.now()))
            what = f"expiry of {left} certificates, or a waiver"
            told = Waiting(f"authorities/{rotation.old_authority_id}", what, self.now())
            move(tx, operation, self.now(), phase=rotation.phase, waiting=(told,))

        await store.write(write)

    async def _undo(self, store: Store[Transaction], operation: Operation, rotation: Rotation) -> None:
        """Take the new CA out of the bundle, then destroy it."""
        if rotation.epoch and not rotation.final_epoch:

            def publish(tx: Transaction) -> None:
                epoch = self._publish_only(tx, rotation, rotation.old_authority_id)
                after = replace(rotation, final_epoch=epoch, step=rotation.step + 1, updated_at=self.now())
                self._store(tx, operation, rotation, after)

            await store.write(publish)
            return
        order = await self._order(store, rotation)
        with suppress(errors.AuthorityNotFound):  # it was rolled back before there was one
            await self.authorities.destroy(order, rotation.new_authority_id)
        failpoints.hit(_POINTS[rotation.phase])
        await store.write(lambda tx: self._end(tx, operation, rotation, OperationState.CANCELLED))

    def _activate(self, tx: Transaction, operation: Operation, rotation: Rotation, made: ArrayAuthority) -> None:
        """Let the new CA issue, and the new primary lead, if every member is still ready."""
        state = read_state(tx, rotation)
        if machine.waits(rotation, state.progress, secured=state.array.peer_security):
            return
        self._follow(tx, operation, rotation, Phase.ACTIVATED)
        move_primary(tx, rotation.old_primary_uid, rotation.new_primary_uid, rotation.creator, "promoted")
        array = lock(tx, rotation.array_id)
        tx.roll.update_array(
            replace(array, authority_id=made.authority_id, authority_sha256=sha256(made.certificate_der))
        )
        publish_members(tx, self.now())

    def _distrust(self, tx: Transaction, operation: Operation, rotation: Rotation) -> None:
        """Publish the epoch without the old CA, if still no member needs it."""
        state = read_state(tx, rotation)
        if machine.waits(rotation, state.progress, secured=state.array.peer_security):
            return
        epoch = self._publish_only(tx, rotation, rotation.new_authority_id)
        after = machine.enter_phase(rotation, Phase.DISTRUSTED, self.now())
        self._store(tx, operation, rotation, replace(after, final_epoch=epoch, old_certificates=0))

    def _end(self, tx: Transaction, operation: Operation, rotation: Rotation, how: OperationState) -> None:
        now = self.now()
        after = replace(rotation, step=rotation.step + 1, updated_at=now, ended_at=now, deadline=0)
        self.rotations.store(tx, rotation, after)
        end(tx, operation, how, now)
        release(tx, rotation.array_id, operation)

    def _follow(self, tx: Transaction, operation: Operation, rotation: Rotation, phase: Phase) -> None:
        self._store(tx, operation, rotation, machine.enter_phase(rotation, phase, self.now()))

    def _store(self, tx: Transaction, operation: Operation, before: Rotation, after: Rotation) -> None:
        """Store a transition: the rotation, the place of its next order, and the operation's phase."""
        array = lock(tx, before.array_id)
        self.rotations.store(tx, before, after)
        tx.roll.update_array(replace(array, order_step=after.step))
        move(tx, operation, self.now(), phase=after.phase)

    def _publish(self, tx: Transaction, rotation: Rotation, authorities: Sequence[BundleAuthority]) -> int:
        array, before = lock(tx, rotation.array_id), tx.epochs.newest(rotation.array_id)
        epoch = next_epoch(
            before,
            array.array_id,
            authorities,
            restore_generation=tx.epochs.restore_generation(),
            rotation_id=rotation.rotation_id,
            now=self.now(),
        )
        tx.epochs.add(epoch)
        tx.roll.update_array(replace(array, epoch=epoch.epoch))
        return epoch.epoch

    def _publish_only(self, tx: Transaction, rotation: Rotation, authority_id: str) -> int:
        before = tx.epochs.newest(rotation.array_id)
        assert before is not None, "an array is made with its first epoch"
        kept = [replace(one, use=AuthorityUse.ISSUE) for one in before.authorities if one.authority_id == authority_id]
        return self._publish(tx, rotation, kept)

    async def _order(self, store: Store[Transaction], rotation: Rotation) -> Order:
        return await store.write(lambda tx: order_of(tx, get_array(tx, rotation.array_id)))


def _put_checks(tx: Transaction, rotation_id: str, rows: Sequence[RotationMember]) -> None:
    """Store the outcomes of checks; waivers may have come or gone meanwhile."""
    known = tx.rotations.members(rotation_id)
    for row in rows:
        now = known.get(row.member_uid)
        tx.rotations.put_member(row if now is None else replace(row, waived=now.waived, quarantined=now.quarantined))


def evidence_of(progress: Progress, rotation: Rotation) -> str:
    """What proves that a member trusts the new CA: `peer_check`, `statement`, or nothing."""
    if progress.checked:
        return "peer_check"
    return "statement" if rotation.epoch and progress.acknowledged >= rotation.epoch else ""
