"""What the feed of callers reads on both databases: changes of three kinds under one sequence of numbers, none missed."""

import asyncio
from dataclasses import replace

from keyreeve.caller_values import IssuingAuthority, OperatorRecord
from keyreeve.identity import Role
from keyreeve.values import AuthorityKind, AuthorityState, CrlReason, Hierarchy, OperatorRole
from keyreeve.values import AuthorityState as State
from keyreeve_ca.operators.ports import Operator
from keyreeve_ca.revocation.ports import NewRevocation
from keyreeve_ca.store.ports import Transaction
from keyreeve_ca.trust.ports import CallerChanges
from keyreeve_chassis.keys.key_types import KeyType
from keyreeve_chassis.keys.ports import SealedKey
from support.databases import CaBench
from support.ledger_entries import NOW, Block, authority, block_request

ANN = Operator("uid-1", "ann", Role.ADMIN, NOW, NOW, "bea", NOW)
CONTROL = authority("control-1", hierarchy=Hierarchy.CONTROL, state=AuthorityState.PENDING)


def add_control(tx: Transaction) -> None:
    tx.add_key(SealedKey(CONTROL.key_id, KeyType.P256, b"spki", b"sealed"))
    tx.add_authority(CONTROL)


def revoked(serial: bytes, authority_id: str = "control-1", not_after: int = NOW + 86_400) -> NewRevocation:
    return NewRevocation(serial, authority_id, not_after, CrlReason.SUPERSEDED, NOW, "ann")


async def certificates(bench: CaBench, count: int, authority_id: str = "control-1") -> list[bytes]:
    before = set(await bench.stored())
    block = await Block.leased(bench.ledger, block_request(authority_id))
    await bench.ledger.commit(block.group(*(block.claim() for _ in range(count))))
    return sorted(set(await bench.stored()) - before)


async def changes(bench: CaBench, after: int, limit: int = 100) -> CallerChanges:
    return await bench.store.read(lambda tx: tx.callers.changes(after, expiring_from=NOW - 600, limit=limit))


async def test_each_change_has_a_number_and_is_sent_in_its_current_state(ca_bench: CaBench) -> None:
    assert await changes(ca_bench, 0) == CallerChanges(0, 0, 0)
    await ca_bench.store.write(add_control)
    await ca_bench.store.write(lambda tx: tx.operators.add(ANN))
    assert await changes(ca_bench, 0) == CallerChanges(
        0,
        2,
        2,
        (IssuingAuthority("authorities/control-1", State.PENDING, b"certificate"),),
        (OperatorRecord("operators/ann", "uid-1", OperatorRole.ADMIN, NOW),),
    )
    active = replace(CONTROL, state=AuthorityState.ACTIVE)
    await ca_bench.store.write(lambda tx: tx.update_authority(active))
    [serial] = await certificates(ca_bench, 1)
    await ca_bench.store.write(lambda tx: tx.revocations.add([revoked(serial)]))
    gone = replace(ANN, removed_at=NOW + 1, role=Role.AUDITOR)
    await ca_bench.store.write(lambda tx: tx.operators.update(gone))
    expected = CallerChanges(
        2,
        5,
        5,
        (IssuingAuthority("authorities/control-1", State.ACTIVE, b"certificate"),),
        (OperatorRecord("operators/ann", "uid-1", OperatorRole.AUDITOR, NOW, removed=True),),
        ((serial, NOW + 86_400),),
    )
    assert await changes(ca_bench, 2) == expected
    assert await changes(ca_bench, 0) == replace(expected, after_seq=0)
    assert await changes(ca_bench, 5) == CallerChanges(5, 5, 5)
    assert await changes(ca_bench, 6) == replace(expected, after_seq=0), "another history's number"


async def test_roots_other_hierarchies_and_what_has_expired_are_left_out(ca_bench: CaBench) -> None:
    await ca_bench.store.write(add_control)
    root = authority("control-root", hierarchy=Hierarchy.CONTROL, kind=AuthorityKind.ROOT)
    estate = authority("estate-2")

    def add(tx: Transaction) -> None:
        for one in (root, estate):
            tx.add_key(SealedKey(one.key_id, KeyType.P256, b"spki", b"sealed"))
            tx.add_authority(one)

    await ca_bench.store.write(add)
    await ca_bench.store.write(lambda tx: tx.update_authority(replace(CONTROL, state=AuthorityState.ACTIVE)))
    [of_estate], [expired] = await certificates(ca_bench, 1, "estate-1"), await certificates(ca_bench, 1)
    await ca_bench.store.write(
        lambda tx: tx.revocations.add([revoked(of_estate, "estate-1"), revoked(expired, not_after=NOW - 601)])
    )
    found = await changes(ca_bench, 0)
    assert [one.name for one in found.authorities] == ["authorities/control-1"]
    assert (found.operators, found.revoked, found.seq, found.head_seq) == ((), (), 4, 4)


async def test_many_changes_come_in_parts_that_follow_each_other(ca_bench: CaBench) -> None:
    await ca_bench.store.write(add_control)
    await ca_bench.store.write(lambda tx: tx.update_authority(replace(CONTROL, state=AuthorityState.ACTIVE)))
    serials = await certificates(ca_bench, 5)
    for n, serial in enumerate(serials):
        person = replace(ANN, person_uid=f"uid-{n}", name=f"p{n}")
        await ca_bench.store.write(lambda tx, person=person: tx.operators.add(person))
        await ca_bench.store.write(lambda tx, serial=serial: tx.revocations.add([revoked(serial)]))
    parts = [await changes(ca_bench, 0, limit=2)]
    while parts[-1].seq < parts[-1].head_seq:
        parts.append(await changes(ca_bench, parts[-1].seq, limit=2))
    assert [part.after_seq for part in parts[1:]] == [part.seq for part in parts[:-1]]
    assert parts[-1].seq == 12
    assert [serial for part in parts for serial, _ in part.revoked] == serials
    assert [one.person_uid for part in parts for one in part.operators] == [f"uid-{n}" for n in range(5)]
    assert sum(len(part.authorities) for part in parts) == 1


async def test_writers_at_the_same_time_leave_no_gap_behind_a_reader(ca_bench: CaBench) -> None:
    await ca_bench.store.write(add_control)
    await ca_bench.store.write(lambda tx: tx.update_authority(replace(CONTROL, state=AuthorityState.ACTIVE)))
    serials = await certificates(ca_bench, 20)
    seen: list[bytes] = []
    people: set[str] = set()
    done = asyncio.Event()

    async def follow() -> None:
        held = 0
        while not done.is_set() or held < 42:
            found = await changes(ca_bench, held, limit=3)
            assert found.after_seq == held
            held = found.seq
            seen.extend(serial for serial, _ in found.revoked)
            people.update(one.person_uid for one in found.operators)

    following = asyncio.create_task(follow())
    await asyncio.gather(
        *(ca_bench.store.write_beside(lambda tx, s=serial: tx.revocations.add([revoked(s)])) for serial in serials),
        *(
            ca_bench.store.write(lambda tx, n=n: tx.operators.add(replace(ANN, person_uid=f"uid-{n}", name=f"p{n}")))
            for n in range(20)
        ),
    )
    done.set()
    await asyncio.wait_for(following, 30)
    assert sorted(seen) == sorted(serials), "each once"
    assert people == {f"uid-{n}" for n in range(20)}
