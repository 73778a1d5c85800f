"""Carry out JoinArray: wait until the server uses the array's CA, then move it; or undo everything."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from keyreeve import errors
from keyreeve_chassis.database.ports import Store
from keyreeve_chassis.leases.ports import LeaseLost
from keyreeve_chassis.operations.ports import Operation, OperationState, Waiting
from keyreeve_chassis.processes import failpoints
from keyreeve_membership.authorities.orders import altered_operation, order_of, require_change_of, require_unaltered
from keyreeve_membership.authorities.ports import ArrayAuthorities, Order
from keyreeve_membership.changes import progress
from keyreeve_membership.changes.progress import end, move, must_succeed, present, publish_members, release
from keyreeve_membership.peers.ports import PeerChecks
from keyreeve_membership.roll.ports import Array, ArrayState, Member, MemberState
from keyreeve_membership.roll.service import get_array
from keyreeve_membership.store.ports import Transaction

_READY = failpoints.register("membership.join.ready", "The joining server is ready and still in its own array.")
_MOVED = failpoints.register("membership.join.moved", "The server is in the array; its former CA is not destroyed.")


@dataclass(frozen=True, slots=True)
class _State:
    """What a step decides on."""

    operation: Operation
    member: Member
    target: Array
    own: Array
    waiting: str
    """What the server has to do first; empty: nothing."""
    trusted_der: tuple[bytes, ...]
    boot_id: str
    """The start of the server's agent that has reported last."""


@dataclass(frozen=True)
class Joining:
    """The steps of a join."""

    authorities: ArrayAuthorities
    peers: PeerChecks
    now: Callable[[], int]
    join_seconds: int

    async def step(self, store: Store[Transaction], operation: Operation) -> float:
        """Do what is next; return the seconds to rest."""
        state = await store.read(lambda tx: self._look(tx, operation))
        if operation.phase == "retiring":
            with must_succeed():
                await self._retire(store, state)
            return 0.0
        try:
            return await self._join(store, state)
        except (errors.Unavailable, LeaseLost):
            raise
        except errors.KeyreeveError as failure:
            await self._undo(store, state, OperationState.FAILED, failure)
            return 0.0

    async def _join(self, store: Store[Transaction], state: _State) -> float:
        operation, member = state.operation, state.member
        if operation.cancel_requested:
            await self._undo(store, state, OperationState.CANCELLED)
            return 0.0
        waiting = state.waiting
        if not waiting and state.target.peer_security:
            answer = await self.peers.check(
                member.name,
                member.address,
                authority_id=state.target.authority_id,
                trusted_der=state.trusted_der,
            )
            answer = answer.of_boot(state.boot_id)
            waiting = f"answer on its peer port: {answer.problem}" if answer.problem else ""
        if waiting:
            if self.now() >= operation.created_at + self.join_seconds:
                raise errors.MemberUnreachable(
                    f"{member.name} did not {waiting} within {self.join_seconds} s", metadata={"member": member.name}
                )
            told = Waiting(member.resource, waiting[:300], self.now())
            await store.write(lambda tx: move(tx, operation, self.now(), phase="joining", waiting=(told,)))
            return progress.WAIT_SECONDS
        failpoints.hit(_READY)
        await store.write(lambda tx: self._move(tx, operation))
        failpoints.hit(_MOVED)
        return 0.0

    def _look(self, tx: Transaction, operation: Operation) -> _State:
        found = present(tx, operation)
        member = tx.roll.member_of(operation.arguments["member_uid"])
        assert member is not None, "records of servers are kept"
        target, own = get_array(tx, operation.arguments["array"]), get_array(tx, operation.arguments["own_array"])
        _require_begun(found, member, target, own)
        epoch = tx.epochs.newest(target.array_id)
        assert epoch is not None, "an array is made with its first epoch"
        trusted = tuple(one.certificate_der for one in epoch.authorities)
        report = tx.roll.report_facts([member.member_uid]).get(member.member_uid)
        boot_id = "" if report is None else report.boot_id
        return _State(found, member, target, own, self._waiting(tx, member, target, found), trusted, boot_id)

    def _look_unaltered(self, tx: Transaction, operation: Operation) -> _State:
        require_unaltered(tx)
        return self._look(tx, operation)

    def _waiting(self, tx: Transaction, member: Member, target: Array, operation: Operation) -> str:
        report = tx.roll.report_facts([member.member_uid]).get(member.member_uid)
        if report is None or report.received_at_ms < operation.created_at * 1000:
            return "report"
        if report.cloned:
            return "run once: two boots of it report in turn"
        if not target.peer_security:
            return ""  # without it an agent loads nothing
        acknowledged = tx.roll.acknowledgements([member.member_uid]).get(member.member_uid)
        if (
            acknowledged is None
            or (acknowledged.array_id, acknowledged.epoch) != (target.array_id, target.epoch)
            or acknowledged.boot_id != report.boot_id
        ):
            return f"load epoch {target.epoch} of {target.array_id}"
        if report.authority_id != target.authority_id:
            return f"use a certificate of {target.authority_id}"
        return ""

    def _move(self, tx: Transaction, operation: Operation) -> None:
        target, own = tx.roll.lock_array(operation.arguments["array"]), get_array(tx, operation.arguments["own_array"])
        member = tx.roll.member_of(operation.arguments["member_uid"])
        assert target is not None, "arrays are kept"
        assert member is not None, "records of servers are kept"
        if self._waiting(tx, member, target, operation):
            return  # it has changed since it was looked at
        move(tx, operation, self.now(), phase="retiring")
        joined = replace(
            member,
            array_id=target.array_id,
            left_array_id=own.array_id,
            joining_array_id="",
            state=MemberState.MEMBER,
            primary=False,
        )
        tx.roll.put_member(joined, "joined", operation.creator)
        for one in tx.roll.members_of(target.array_id):
            if one.state is MemberState.STANDALONE:
                tx.roll.put_member(replace(one, state=MemberState.MEMBER), "joined by another", operation.creator)
        tx.roll.update_array(replace(target, backups=(*target.backups, member.member_uid), change=""))
        tx.roll.update_array(replace(own, state=ArrayState.DISSOLVED))
        publish_members(tx, self.now())

    async def _retire(self, store: Store[Transaction], state: _State) -> None:
        def look_again(tx: Transaction) -> tuple[Order, str]:
            own = self._look_unaltered(tx, state.operation).own
            return order_of(tx, own), own.authority_id

        await self.authorities.destroy(*await store.write(look_again))

        def done(tx: Transaction) -> None:
            end(tx, state.operation, OperationState.SUCCEEDED, self.now())
            release(tx, state.own.array_id, state.operation)

        await store.write(done)

    async def _undo(
        self,
        store: Store[Transaction],
        state: _State,
        how: OperationState,
        failure: errors.KeyreeveError | None = None,
    ) -> None:
        """Put everything back; the certificates that the server may have got meanwhile are revoked first."""
        with must_succeed():
            await store.read(lambda tx: self._look_unaltered(tx, state.operation))
            await self.authorities.revoke_peer(state.target.authority_id, state.member.name, superseded=True)

        def back(tx: Transaction) -> None:
            reason, message = ("", "") if failure is None else (failure.reason, failure.message)
            end(tx, state.operation, how, self.now(), reason=reason, message=message)
            member = tx.roll.member_of(state.member.member_uid)
            assert member is not None, "records of servers are kept"
            alone = replace(member, state=MemberState.STANDALONE, joining_array_id="")
            tx.roll.put_member(alone, "join undone", state.operation.creator, reason)
            release(tx, state.target.array_id, state.operation)
            release(tx, state.own.array_id, state.operation)
            publish_members(tx, self.now())

        await store.write(back)


def _require_begun(operation: Operation, member: Member, target: Array, own: Array) -> None:
    """Raise `TrustTableAltered` unless the roll says what the operation says: that this join was begun, or is at its end."""
    retiring = operation.phase == "retiring"
    require_change_of([own] if retiring else [own, target], operation)
    place = (member.state, member.array_id, member.joining_array_id)
    begun = (
        own.state is ArrayState.DISSOLVED if retiring else place == (MemberState.JOINING, own.array_id, target.array_id)
    )
    if not begun:
        raise altered_operation(operation)
