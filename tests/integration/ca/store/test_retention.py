"""Deletion of expired certificates: what is deleted, what remains, and resuming after a kill."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import text

from keyreeve import errors
from keyreeve.session_values import AUDIENCES, SessionMethod
from keyreeve.values import CrlReason
from keyreeve_ca.ledger.ports import Committed
from keyreeve_ca.operators.ports import RegisteredKey
from keyreeve_ca.requests.openssh_keys import stored_key
from keyreeve_ca.revocation.ports import NewRevocation
from keyreeve_ca.sessions.ports import Session
from keyreeve_ca.store import retention as module
from keyreeve_ca.store import retention_sql
from keyreeve_ca.store.ports import CertificateFilter, Transaction
from keyreeve_ca.store.retention import Retention
from support.databases import CaBench, CaDatabase
from support.ledger_entries import NOW, Block, block_request

DAY = 86_400
LATER = NOW + 20 * DAY


def retention(bench: CaBench, *, days: int | None = 3, now: int = LATER) -> tuple[Retention, list[int]]:
    deleted: list[int] = []

    async def pause(_seconds: float) -> None:
        await asyncio.sleep(0)

    return Retention(bench.ledger, bench.store, days, 30, lambda: now, deleted.append, pause), deleted


async def issue(bench: CaBench, block: Block, *not_after: int) -> list[bytes]:
    """Certificates that end at these times, in one group; their serial numbers."""
    claims = [block.claim(block.certificate(not_after=end, binds_key=True)) for end in not_after]
    outcomes = await bench.ledger.commit(block.group(*claims))
    return [item for o in outcomes if isinstance(o, Committed) for item in o.items if isinstance(item, bytes)]


async def forget_requests(bench: CaBench) -> None:
    await bench.execute("DELETE FROM requests")


async def test_only_what_expired_longer_ago_than_it_is_kept_goes(ca_bench: CaBench) -> None:
    first, second = await Block.leased(ca_bench.ledger), await Block.leased(ca_bench.ledger)
    cut = (LATER // DAY - 3) * DAY
    old, kept = await issue(ca_bench, first, cut - 1, cut)
    others = await issue(ca_bench, second, cut + 5, cut + 10 * DAY)
    await forget_requests(ca_bench)
    job, deleted = retention(ca_bench)
    await job.run()
    assert await ca_bench.stored() == sorted([kept, *others])
    assert sum(deleted) == 1
    with pytest.raises(errors.CertificateNotFound):
        await ca_bench.store.read(lambda tx: tx.certificate(old))
    assert await ca_bench.count("key_bindings") == 4, "whose key it is stays known for ever"


async def test_without_a_setting_nothing_goes(ca_bench: CaBench) -> None:
    block = await Block.leased(ca_bench.ledger)
    serials = await issue(ca_bench, block, NOW + 1, NOW + 2)
    await forget_requests(ca_bench)
    await retention(ca_bench, days=None, now=NOW + 10_000 * DAY)[0].run()
    assert await ca_bench.stored() == sorted(serials)


async def test_a_long_block_goes_in_steps_and_is_no_longer_visited(
    ca_bench: CaBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STEP", 3)
    block = await Block.leased(ca_bench.ledger)
    await issue(ca_bench, block, *range(NOW + 1, NOW + 9))
    [left] = await issue(ca_bench, block, LATER)
    await forget_requests(ca_bench)
    job, deleted = retention(ca_bench)
    await job.run()
    assert deleted == [3, 3, 2]
    assert await ca_bench.stored() == [left]
    assert await ca_bench.ledger.expired_block(LATER, 0) is None
    assert await ca_bench.ledger.expired_block(LATER + 1, 0) == block.lease.block_id
    [again] = await issue(ca_bench, block, LATER - 5)
    assert await ca_bench.ledger.expired_block(LATER, 0) == block.lease.block_id, "the block was open still"
    await forget_requests(ca_bench)
    await retention(ca_bench, now=LATER + 100 * DAY)[0].run()
    assert again not in await ca_bench.stored()
    assert await ca_bench.ledger.expired_block(LATER * 2, 0) is None


async def test_revocations_and_renewals_go_with_their_certificates_and_not_before(ca_bench: CaBench) -> None:
    block = await Block.leased(ca_bench.ledger)
    gone, renewed, stays = await issue(ca_bench, block, NOW + 1, NOW + 2, LATER)
    successor = block.certificate(renews=renewed, not_after=LATER)
    await ca_bench.ledger.commit(block.group(block.claim(successor)))
    await forget_requests(ca_bench)
    reason = CrlReason.SUPERSEDED
    new = [NewRevocation(s, "estate-1", end, reason, NOW, "me") for s, end in ((gone, NOW + 1), (stays, LATER))]
    await ca_bench.store.write(lambda tx: tx.revocations.add(new))
    await retention(ca_bench)[0].run()
    assert await ca_bench.stored() == sorted([stays, successor.serial])
    assert set(await ca_bench.store.read(lambda tx: tx.revocations.of([gone, stays]))) == {stays}
    assert await ca_bench.store.read(lambda tx: tx.successor(renewed)) is None
    assert await ca_bench.count("renewals") == 1
    listed = await ca_bench.store.read(lambda tx: tx.certificates(CertificateFilter(revoked=True), after=b"", limit=9))
    assert [c.serial for c in listed] == [stays]


async def test_what_a_request_may_still_be_answered_with_stays(ca_bench: CaBench) -> None:
    block = await Block.leased(ca_bench.ledger)
    serials = await issue(ca_bench, block, NOW + 1)
    await ca_bench.execute(f"UPDATE requests SET created_at = {LATER - 60}")
    await ca_bench.execute(f"UPDATE certificates SET not_after = {LATER - 50}, issued_at = {LATER - 60}")
    job, _ = retention(ca_bench)
    await ca_bench.execute(f"UPDATE requests SET created_at = {NOW}")
    assert await ca_bench.ledger.purge_certificates(block.lease.block_id, LATER, 10) == 0
    assert await ca_bench.stored() == serials
    await job.run()  # the requests go first
    assert await ca_bench.count("requests") == 0


async def test_a_pass_is_announced_in_the_audit_before_it_begins(ca_bench: CaBench) -> None:
    block = await Block.leased(ca_bench.ledger)
    await issue(ca_bench, block, NOW + 1)
    await forget_requests(ca_bench)
    before = await ca_bench.count("audit_links")
    job, deleted = retention(ca_bench)
    await job.run()
    await job.run()
    assert (sum(deleted), await ca_bench.count("audit_links") - before) == (1, 1), "an empty pass is none"


async def test_one_coordinator_at_a_time_deletes(postgresql_database: CaDatabase) -> None:
    bench = await CaBench.on(postgresql_database)
    block = await Block.leased(bench.ledger)
    serials = await issue(bench, block, NOW + 1)
    await forget_requests(bench)
    other = postgresql_database.database()
    with other.engine.connect() as connection, connection.begin():
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": retention_sql.LOCK})
        assert await bench.ledger.purge_certificates(block.lease.block_id, LATER, 10) is None
        await retention(bench)[0].run()
        assert await bench.stored() == serials
    await retention(bench)[0].run()
    assert await bench.stored() == []


@pytest.mark.thorough_on("postgresql")
@pytest.mark.faults
async def test_a_pass_that_is_killed_at_any_commit_is_taken_up_by_the_next(ca_database: CaDatabase) -> None:
    bench = await CaBench.on(ca_database)
    kept: list[bytes] = []
    for _ in range(3):
        block = await Block.leased(bench.ledger, block_request())
        await issue(bench, block, *[NOW + 1] * 600)
        kept += await issue(bench, block, LATER, LATER + 1)
    await forget_requests(bench)
    await bench.execute("DELETE FROM commit_groups")
    if ca_database.is_sqlite:
        ca_database.close()  # the file has one coordinator at a time

    def run(arm: str) -> int:
        command = [
            sys.executable,
            "-m",
            "support.ledger_purger",
            ca_database.kind,
            ca_database.location,
            str(LATER),
            arm,
        ]
        return subprocess.run(
            command, env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}, check=False
        ).returncode

    # The 1st commit forgets requests, the 2nd announces, those after that delete.
    for arm in (
        "before=crash@1",
        "after=crash@2",
        "before=crash@3",
        "after=crash@3",
        "after=crash@4",
        "before=crash@4",
    ):
        assert run(f"ca.commit.{arm}") == -signal.SIGKILL
    assert run("") == 0
    if ca_database.is_sqlite:
        bench = CaBench(ca_database)
    assert await bench.stored() == sorted(kept)
    assert await bench.count("renewals") == await bench.count("revocations") == 0
    left = "SELECT count(*) FROM serial_blocks WHERE first_not_after <> "
    assert await bench.writer.read(lambda c: c.execute(text(f"{left}{LATER}")).scalar_one()) == 0


LINE = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGh5cG90aGV0aWNhbC1rZXktb2YtYS10ZXN0LTAwMDA="


def session(
    name: str, ends_at: int, method: SessionMethod = SessionMethod.CERTIFICATE, credential: str = ""
) -> Session:
    """A session whose proof is its name."""
    return Session(
        session_id=name,
        identity="spiffe://example.test/operators/operator/olga",
        person_uid="olga-1",
        gateway="spiffe://example.test/services/gateway/one",
        method=method,
        credential=credential,
        client_address="",
        audiences=AUDIENCES,
        method_families=(),
        proof_sha256=name.encode(),
        opened_at=ends_at - 3_600,
        ends_at=ends_at,
    )


async def test_sessions_go_a_month_after_their_end_unless_their_ssh_key_could_open_another(
    ca_bench: CaBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STEP", 2)
    old, key = LATER - 30 * DAY - 1, stored_key(LINE)
    registered = [RegisteredKey(key, NOW, "ann")]
    with_key, with_other = SessionMethod.SSH_KEY, SessionMethod.SSH_CERTIFICATE
    made = (
        session("recent", old + 1),
        *(session(f"old-{number}", old - number) for number in range(3)),
        session("registered", old, with_key, key.fingerprint),
        session("removed", old, with_key, "SHA256:none"),
        session("certified", old, with_other, key.fingerprint),
    )

    async def left() -> list[str]:
        found = [await ca_bench.store.read(lambda tx, one=one: tx.sessions.is_used(one.proof_sha256)) for one in made]
        return [one.session_id for one, kept in zip(made, found, strict=True) if kept]

    def fill(tx: Transaction) -> None:
        tx.operators.set_keys("olga-1", registered)
        for one in made:
            tx.sessions.add(one)

    await ca_bench.store.write(fill)
    await retention(ca_bench)[0].run()
    assert await left() == ["recent", "registered"]
    await ca_bench.store.write(lambda tx: tx.operators.set_keys("olga-1", []))
    await retention(ca_bench)[0].run()
    assert await left() == ["recent"]
