"""A process's view of revoked callers: complete up to a number, whatever happens to the database."""

from dataclasses import dataclass

import pytest

from keyreeve import errors
from keyreeve.identity import Caller, Role, SpiffeId
from keyreeve.values import AuthorityState, CrlReason, Hierarchy
from keyreeve_ca.revocation import known_revocations as live_revocations
from keyreeve_ca.revocation.crl_publisher import phantoms_of
from keyreeve_ca.revocation.known_revocations import LiveRevocations
from keyreeve_ca.revocation.ports import NewRevocation, VoidBlock
from keyreeve_ca.revocation.service import Revoking
from keyreeve_ca.store.ports import Transaction
from keyreeve_chassis.keys.key_types import KeyType
from keyreeve_chassis.keys.ports import SealedKey
from support.databases import CaBench
from support.ledger_entries import NOW, Block, authority, block_request

ALICE = Caller(SpiffeId.parse("spiffe://example.test/operators/admin/alice"), Role.ADMIN, 1)


@dataclass
class Clock:
    seconds: float = 0.0

    def __call__(self) -> float:
        return self.seconds


async def control_certificates(bench: CaBench, count: int) -> list[bytes]:
    """So many certificates of the control hierarchy, in the ledger."""

    def add(tx: Transaction) -> None:
        tx.add_key(SealedKey("key of control-1", KeyType.P256, b"spki", b"sealed"))
        tx.add_authority(authority("control-1", hierarchy=Hierarchy.CONTROL))

    await bench.store.write(add)
    block = await Block.leased(bench.ledger, block_request("control-1"))
    await bench.ledger.commit(block.group(*(block.claim() for _ in range(count))))
    return await bench.stored()


async def revoke(bench: CaBench, *serials: bytes, authority_id: str = "control-1") -> None:
    await bench.store.write(
        lambda tx: tx.revocations.add(
            [NewRevocation(s, authority_id, NOW + 86_400, CrlReason.SUPERSEDED, NOW, "ann") for s in serials]
        )
    )


def known(live: LiveRevocations, serials: list[bytes]) -> list[bool]:
    return [live.is_revoked(int.from_bytes(one)) for one in serials]


async def test_what_is_new_is_learnt_page_by_page_and_its_age_is_that_of_the_asking(
    ca_bench: CaBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_revocations, "PAGE", 2)
    clock = Clock()
    serials = await control_certificates(ca_bench, 6)
    live = LiveRevocations(ca_bench.store, lambda: NOW, clock)
    assert live.age() == float("inf")
    await revoke(ca_bench, *serials[:5])
    await live.refresh()
    assert known(live, serials) == [True] * 5 + [False]
    clock.seconds = 3.0
    assert live.age() == 3.0
    await revoke(ca_bench, serials[5])
    await live.refresh()
    assert (known(live, serials), live.age(), live.position) == ([True] * 6, 0.0, (1, 7)), "1 is the authority's"


async def test_other_hierarchies_and_expired_certificates_are_left_out(ca_bench: CaBench) -> None:
    serials = await control_certificates(ca_bench, 1)
    estate = await Block.leased(ca_bench.ledger)
    await ca_bench.ledger.commit(estate.group())
    every = await ca_bench.stored()
    [other] = set(every) - set(serials)
    await revoke(ca_bench, other, authority_id="estate-1")
    await revoke(ca_bench, *serials)
    live = LiveRevocations(ca_bench.store, lambda: NOW, Clock())
    await live.refresh()
    assert known(live, [serials[0], other]) == [True, False]
    later = LiveRevocations(ca_bench.store, lambda: NOW + 100_000, Clock())
    await later.refresh()
    assert known(later, serials) == [False]


async def test_what_has_expired_is_forgotten_when_much_is_known(
    ca_bench: CaBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_revocations, "PAGE", 2)
    serials = await control_certificates(ca_bench, 3)
    now = [NOW]
    live = LiveRevocations(ca_bench.store, lambda: now[0], Clock())
    await revoke(ca_bench, *serials[:2])
    await live.refresh()
    now[0] = NOW + 100_000
    await live.refresh()
    assert known(live, serials) == [True, True, False], "they are few"
    await ca_bench.store.write(
        lambda tx: tx.revocations.add(
            [NewRevocation(serials[2], "control-1", NOW + 200_000, CrlReason.SUPERSEDED, NOW, "ann")]
        )
    )
    await live.refresh()
    assert known(live, serials) == [False, False, True]


@pytest.mark.parametrize("restore_generation", [1, 2])
async def test_a_database_that_was_restored_is_read_from_the_beginning(
    ca_bench: CaBench, restore_generation: int
) -> None:
    serials = await control_certificates(ca_bench, 3)
    await revoke(ca_bench, *serials[:2])
    live = LiveRevocations(ca_bench.store, lambda: NOW, Clock())
    await live.refresh()
    await ca_bench.execute("DELETE FROM revocations")
    await ca_bench.execute("UPDATE revocation_head SET last_seq = 0")
    await ca_bench.execute(f"UPDATE control_plane SET restore_generation = {restore_generation}")
    await ca_bench.execute("DELETE FROM renewals")
    await revoke(ca_bench, serials[2])
    await live.refresh()
    assert known(live, serials) == [True] * 3, "earlier revocations remain, and new ones are known"
    assert live.position == (restore_generation, 1)


async def test_an_expired_certificate_is_not_revoked(ca_bench: CaBench) -> None:
    [serial] = await control_certificates(ca_bench, 1)
    late = Revoking(lambda: NOW + 100_000)
    with pytest.raises(errors.CertificateExpired):
        await ca_bench.store.write(lambda tx: late.revoke(tx, ALICE, serial, CrlReason.SUPERSEDED))
    with pytest.raises(errors.CertificateNotFound):
        await ca_bench.store.write(lambda tx: late.revoke(tx, ALICE, b"@" * 16, CrlReason.SUPERSEDED))


@pytest.mark.parametrize(
    ("committed", "lifetime", "expected"),
    [
        (-1, 3600, (0, 1023, NOW + 3600)),
        (9, 3600, (10, 1033, NOW + 3600)),
        (4000, 3600, (4001, 4095, NOW + 3600)),
        (4095, 3600, (4096, 4095, NOW + 3600)),
        (0, 10**9, (1, 1024, NOW + 1_000_000)),
        (0, None, (1, 1024, NOW + 1_000_000)),
    ],
)
def test_phantoms_end_with_their_block_and_with_the_longest_life_that_was_possible(
    committed: int, lifetime: int | None, expected: tuple[int, int, int]
) -> None:
    one = authority("estate-1", state=AuthorityState.RETIRING)
    found = phantoms_of(VoidBlock(7, "estate-1", 0, committed, 4096, lifetime), {"estate-1": one}, NOW)
    assert (found.first_counter, found.last_counter, found.expires_at) == expected
