"""Each change that a process follows touches its topic, on both databases; a change that nobody follows touches none."""

from collections.abc import Set

import pytest

from keyreeve.enrollment_token import RETRY_SECONDS
from keyreeve.values import CrlReason
from keyreeve_ca.enrollment.ports import TOKENS, StoredToken, TokenState
from keyreeve_ca.ledger.ports import BLOCKS
from keyreeve_ca.revocation.ports import REVOCATIONS, NewRevocation
from keyreeve_ca.store.ports import CONFIG
from support.databases import CaBench
from support.ledger_entries import NOW, WORKER, Block

SERIAL = bytes.fromhex("4" + "0" * 30 + "7")


@pytest.fixture
def told(ca_bench: CaBench) -> list[Set[str]]:
    """The topics of each transaction that touched any."""
    touched: list[Set[str]] = []
    ca_bench.writer._announce = touched.append
    return touched


def token(state: TokenState) -> StoredToken:
    return StoredToken(
        token_id=b"i" * 16,
        identity="spiffe://example.test/members/web.example.test",
        creator="spiffe://example.test/operators/admin/ann",
        root_sha256=b"r" * 32,
        sealed_keys=b"sealed",
        state=state,
        created_at=NOW,
        expires_at=NOW + 3600,
    )


async def test_a_raised_version_of_the_configuration(ca_bench: CaBench, told: list[Set[str]]) -> None:
    await ca_bench.store.write(lambda tx: tx.bump_config())
    assert told == [{CONFIG}]


async def test_blocks_that_are_leased_and_void_but_no_certificate(ca_bench: CaBench, told: list[Set[str]]) -> None:
    block = await Block.leased(ca_bench.ledger)
    assert told == [{BLOCKS}]
    await ca_bench.ledger.commit(block.group(block.claim()))
    assert told == [{BLOCKS}], "the signing path tells nobody"
    assert await ca_bench.ledger.void_blocks_of(WORKER) == 1
    assert told == [{BLOCKS}, {BLOCKS}]
    assert await ca_bench.ledger.void_blocks_of(WORKER) == 0
    assert len(told) == 2


async def test_revocations(ca_bench: CaBench, told: list[Set[str]]) -> None:
    block = await Block.leased(ca_bench.ledger)
    await ca_bench.ledger.commit(block.group(block.claim()))
    [serial] = await ca_bench.stored()
    told.clear()
    new = NewRevocation(serial, "estate-1", NOW + 86_400, CrlReason.SUPERSEDED, NOW, "someone")
    await ca_bench.store.write(lambda tx: tx.revocations.add([]))
    assert told == []
    await ca_bench.store.write(lambda tx: tx.revocations.add([new]))
    assert told == [{REVOCATIONS}]
    position = await ca_bench.store.read(lambda tx: tx.revocations.position(), one_statement=True)
    assert position == (1, 1)


async def test_tokens_that_led_to_a_certificate_and_what_becomes_of_them(
    ca_bench: CaBench, told: list[Set[str]]
) -> None:
    write = ca_bench.store.write
    await write(lambda tx: tx.tokens.add(token(TokenState.OPEN)))
    await write(lambda tx: tx.tokens.bind(b"i" * 16, b"k" * 32, NOW))
    assert told == [], "no certificate names it yet"
    await write(lambda tx: tx.tokens.issued(b"i" * 16, SERIAL))
    await write(lambda tx: tx.tokens.tidy(NOW))
    assert told == [{TOKENS}]
    await write(lambda tx: tx.tokens.tidy(NOW + RETRY_SECONDS))
    assert told == [{TOKENS}] * 2
    await write(lambda tx: tx.tokens.close(SERIAL, NOW))
    assert told == [{TOKENS}] * 3
    await write(lambda tx: tx.tokens.revoke(b"i" * 16, NOW))
    assert told == [{TOKENS}] * 4
