"""Enrollment tokens on both databases: each state change, races, and deletion."""

import asyncio
from dataclasses import replace

import pytest

from keyreeve.enrollment_token import RETRY_SECONDS
from keyreeve_ca.enrollment.ports import StoredToken, TokenState
from keyreeve_ca.enrollment.sql import KEYS_KEPT, ROWS_KEPT
from keyreeve_chassis.database.store import ReadOnly
from support.databases import CaBench

NOW = 1_800_000_000
SERIAL = bytes.fromhex("4" + "0" * 30 + "7")


def token(number: int = 1, **changes: object) -> StoredToken:
    made = StoredToken(
        token_id=bytes([number]) * 16,
        identity="spiffe://example.test/members/web.example.test",
        creator="spiffe://example.test/operators/admin/ann",
        root_sha256=b"r" * 32,
        sealed_keys=b"sealed",
        state=TokenState.OPEN,
        created_at=NOW,
        expires_at=NOW + 3600,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


async def add(bench: CaBench, *tokens: StoredToken) -> None:
    for one in tokens:
        await bench.store.write(lambda tx, one=one: tx.tokens.add(one))


async def got(bench: CaBench, one: StoredToken) -> StoredToken | None:
    return await bench.store.read(lambda tx: tx.tokens.get(one.token_id))


async def test_a_token_is_read_back_as_it_was_stored(ca_bench: CaBench) -> None:
    one = token()
    await add(ca_bench, one)
    assert await got(ca_bench, one) == one
    assert await got(ca_bench, token(9)) is None
    with pytest.raises(ReadOnly):
        await ca_bench.store.read(lambda tx: tx.tokens.add(token(2)))


async def test_of_many_who_bind_a_token_one_wins(ca_bench: CaBench) -> None:
    one = token()
    await add(ca_bench, one)
    keys = [bytes([number]) * 32 for number in range(20)]
    won = await asyncio.gather(
        *(ca_bench.store.write(lambda tx, key=key: tx.tokens.bind(one.token_id, key, NOW + 1)) for key in keys)
    )
    assert won.count(True) == 1
    bound = await got(ca_bench, one)
    assert bound is not None
    assert bound.state is TokenState.BOUND
    assert bound.spki_sha256 == keys[won.index(True)]
    assert bound.bound_at == NOW + 1


@pytest.mark.parametrize("late", [0, 1])
async def test_a_token_cannot_be_bound_from_the_second_of_its_expiry_on(ca_bench: CaBench, late: int) -> None:
    one = token()
    await add(ca_bench, one)
    moment = one.expires_at - 1 + late
    assert await ca_bench.store.write(lambda tx: tx.tokens.bind(one.token_id, b"k" * 32, moment)) is (late == 0)


async def test_a_token_is_closed_by_its_certificate_and_its_keys_are_erased(ca_bench: CaBench) -> None:
    one = token()
    await add(ca_bench, one)
    write, read = ca_bench.store.write, ca_bench.store.read
    await write(lambda tx: tx.tokens.issued(one.token_id, SERIAL))
    assert await read(lambda tx: list(tx.tokens.pending())) == []
    await write(lambda tx: tx.tokens.bind(one.token_id, b"k" * 32, NOW))
    await write(lambda tx: tx.tokens.issued(one.token_id, SERIAL))
    assert await read(lambda tx: list(tx.tokens.pending())) == [SERIAL]
    assert await write(lambda tx: tx.tokens.close(SERIAL[:-1] + b"\x08", NOW + 5)) is False
    assert await write(lambda tx: tx.tokens.close(SERIAL, NOW + 5)) is True
    assert await write(lambda tx: tx.tokens.close(SERIAL, NOW + 6)) is False
    closed = await got(ca_bench, one)
    assert closed is not None
    assert (closed.state, closed.ended_at, closed.sealed_keys) == (TokenState.CLOSED, NOW + 5, None)
    assert await write(lambda tx: tx.tokens.revoke(one.token_id, NOW)) is False
    assert await write(lambda tx: tx.tokens.rekey(one.token_id, b"new", NOW)) is False


async def test_the_open_and_bound_tokens_of_a_maker_are_revoked_together(ca_bench: CaBench) -> None:
    mine, used, anothers = token(1), token(2), token(3, creator="spiffe://example.test/operators/admin/bob")
    await add(ca_bench, mine, used, anothers)
    write = ca_bench.store.write
    await write(lambda tx: tx.tokens.bind(used.token_id, b"k" * 32, NOW))
    assert await write(lambda tx: tx.tokens.revoke_made_by([mine.creator], NOW)) == 2
    states = [one.state for one in await ca_bench.store.read(lambda tx: tx.tokens.page(after=b"", limit=10))]
    assert states == [TokenState.REVOKED, TokenState.REVOKED, TokenState.OPEN]
    assert await write(lambda tx: tx.tokens.bind(mine.token_id, b"k" * 32, NOW)) is False


async def test_tidying_closes_erases_and_forgets_each_in_its_time(ca_bench: CaBench) -> None:
    never_used, bound, revoked = token(1), token(2), token(3)
    await add(ca_bench, never_used, bound, revoked)
    write = ca_bench.store.write
    await write(lambda tx: tx.tokens.bind(bound.token_id, b"k" * 32, NOW))
    await write(lambda tx: tx.tokens.revoke(revoked.token_id, NOW))
    assert await write(lambda tx: tx.tokens.tidy(NOW + RETRY_SECONDS - 1)) == 0
    assert await write(lambda tx: tx.tokens.tidy(NOW + RETRY_SECONDS)) == 1
    closed = await got(ca_bench, bound)
    assert closed is not None
    assert (closed.state, closed.sealed_keys) == (TokenState.CLOSED, None)
    assert await write(lambda tx: tx.tokens.tidy(never_used.expires_at + KEYS_KEPT + 1)) == 2
    for one in (never_used, revoked):
        kept = await got(ca_bench, one)
        assert kept is not None
        assert kept.sealed_keys is None
    assert await write(lambda tx: tx.tokens.tidy(never_used.expires_at + ROWS_KEPT + 1)) == 3
    assert await got(ca_bench, never_used) is None
