"""The signing path when something goes wrong beside it: nobody is answered wrongly, and nobody waits for ever."""

import asyncio
from dataclasses import replace

import pytest

from fakes.signing_path import ADMIN, OTHER, FakeLedger, Path, committed, settle, snapshot
from keyreeve import errors
from keyreeve.keys import make_csr, make_key
from keyreeve.values import Name
from keyreeve_ca.issuance.batching import MAX_IN_PROGRESS
from keyreeve_ca.issuance.commit_queue import MAX_GROUP
from keyreeve_ca.issuance.service import SignItem
from keyreeve_ca.ledger.ports import BLOCK_SIZE, MAX_UNCOMMITTED, GateClosed
from support.certificate_plans import PERMISSIVE, authority, version_of

KEY = make_key()
ITEM = SignItem("test", make_csr(KEY, [Name.dns("web.example.test")]))


class FailingSigner:
    """Signs, and then fails as told at some signatures."""

    def __init__(self, fail_at, failure):
        self.inner, self.fail_at, self.failure = authority().signer, fail_at, failure
        self.signatures = 0
        self.signed = []

    @property
    def key_type(self):
        return self.inner.key_type

    @property
    def spki(self):
        return self.inner.spki

    def sign(self, message):
        self.signatures += 1
        self.signed.append(message)
        if self.signatures in self.fail_at:
            raise self.failure
        return self.inner.sign(message)


def fail_once(failure):
    """What a ledger does before its first commit alone."""
    calls = []

    def before(_group):
        calls.append(1)
        if len(calls) == 1:
            raise failure

    return before


async def test_a_commit_without_an_answer_is_looked_up_before_any_caller_is_answered():
    path = Path()

    def lose_the_answer(group):
        path.ledger.found = committed(group)
        raise errors.StoreUnavailable("no answer")

    path.ledger.before = lose_the_answer
    [entry] = await path.sign(ITEM)
    assert entry.serial
    assert len(path.ledger.looked_up) == 1


async def test_a_commit_that_did_not_happen_is_an_error_that_may_be_repeated():
    path = Path(FakeLedger(before=fail_once(errors.StoreUnavailable("no answer"))))
    with pytest.raises(errors.StoreUnavailable):
        await path.sign(ITEM)
    assert (await path.sign(ITEM))[0].serial
    assert len(path.ledger.leases) == 2, "the counters of a block whose commit failed are not known to be in order"


async def test_a_group_that_the_gate_refuses_is_signed_anew_under_other_serial_numbers():
    path = Path(FakeLedger(before=fail_once(GateClosed("authority"))))
    [entry] = await path.sign(ITEM)
    assert path.reloads == 1
    assert entry.serial == path.ledger.groups[0].requests[0].items[0].serial
    assert path.ledger.groups[0].block_id == 2


async def test_a_gate_that_stays_closed_ends_with_a_retryable_error():
    def closed(_group):
        raise GateClosed("profile")

    with pytest.raises(errors.StoreUnavailable):
        await Path(FakeLedger(before=closed)).sign(ITEM)


async def test_an_unexpected_failure_concerns_its_group_alone_and_those_behind_it_go_on():
    path = Path(FakeLedger(before=fail_once(RuntimeError("a bug"))))
    path.ledger.open.clear()
    first = asyncio.create_task(path.sign(ITEM, request_id="1"))
    await settle()
    behind = [asyncio.create_task(path.sign(ITEM, request_id=str(n))) for n in range(2, 5)]
    await settle()
    path.ledger.open.set()
    with pytest.raises(RuntimeError, match="a bug"):
        await first
    assert all([(await task)[0].serial for task in behind])


async def test_a_caller_that_goes_away_affects_no_other():
    path = Path()
    path.ledger.open.clear()
    leaving, staying = (asyncio.create_task(path.sign(ITEM, request_id=n)) for n in ("1", "2"))
    await settle()
    leaving.cancel()
    path.ledger.open.set()
    assert (await staying)[0].serial
    with pytest.raises(asyncio.CancelledError):
        await leaving
    stored = [claim.request_id for group in path.ledger.groups for claim in group.requests]
    assert sorted(stored) == ["1", "2"], "what was signed is in the ledger for a repeated request"


@pytest.mark.parametrize("failure", [RuntimeError("a bug"), errors.FinalCheckFailed("not what was planned")])
async def test_a_serial_number_is_never_used_twice_even_when_signing_fails(failure):
    signer = FailingSigner({2}, failure)
    path = Path(known=snapshot(signer))
    await path.sign(ITEM, request_id="1")
    if isinstance(failure, errors.KeyreeveError):
        assert [type(o) for o in await path.sign(ITEM, request_id="2")] == [errors.FinalCheckFailed]
    else:
        with pytest.raises(RuntimeError):
            await path.sign(ITEM, request_id="2")
    await path.sign(ITEM, request_id="3")
    serials = {tbs[tbs.index(b"\x02\x10") :][:18] for tbs in signer.signed}
    assert len(serials) == len(signer.signed) == 3


async def test_what_arrives_during_a_commit_is_one_group_and_no_group_is_too_large():
    path = Path()
    path.ledger.open.clear()
    items = (ITEM,) * 100
    tasks = [asyncio.create_task(path.sign(*items, request_id=str(n))) for n in range(10)]
    commit_queue = path.issuance.commit_queues.of("estate-issuing", long=True)
    # Steps of the loop are waited for, not time.
    while commit_queue.uncommitted < 1000:  # noqa: ASYNC110
        await asyncio.sleep(0)
    late = asyncio.create_task(path.sign(*items, request_id="late"))
    await settle()
    assert commit_queue.uncommitted == 1000 <= MAX_UNCOMMITTED, "the last one waits for room"
    path.ledger.open.set()
    for task in [*tasks, late]:
        assert len(await task) == 100
    sizes = [sum(len(claim.items) for claim in group.requests) for group in path.ledger.groups]
    assert max(sizes) <= MAX_GROUP
    assert len(sizes) < 11
    counters = [group.last_counter for group in path.ledger.groups]
    assert counters == sorted(counters)


@pytest.mark.parametrize("wrong", [b"", b"no request", ITEM.csr[:-1] + bytes([ITEM.csr[-1] ^ 1])])
async def test_octets_that_no_request_can_be_made_of_are_refused_without_asking_the_database(wrong, monkeypatch):
    path = Path()

    async def ask(_work):
        raise AssertionError("the database was asked")

    monkeypatch.setattr(path.issuance.store, "read", ask)
    [refused] = await path.sign(SignItem("test", wrong))
    assert refused.reason in {"CSR_MALFORMED", "CSR_SIGNATURE_INVALID"}


async def half_signed(path):
    """A request for 100 certificates of which some are signed."""
    long = asyncio.create_task(path.sign(*(ITEM,) * 100, request_id="long"))
    while not path.issuance.commit_queues.of("estate-issuing", long=True).counter:  # noqa: ASYNC110
        await asyncio.sleep(0)
    assert not path.ledger.groups
    return long


async def test_a_short_request_does_not_wait_for_the_signatures_of_a_long_one():
    path = Path()
    long = await half_signed(path)
    await path.sign(ITEM, request_id="short", caller=OTHER)
    assert not long.done()
    assert [group.requests[0].request_id for group in path.ledger.groups] == ["short"]
    assert len(await long) == 100
    assert len({group.block_id for group in path.ledger.groups}) == 2


async def test_a_long_request_that_is_given_up_half_signed_leaves_no_number_that_is_not_in_the_ledger():
    path = Path()
    long = await half_signed(path)
    long.cancel()
    await settle()
    [group] = path.ledger.groups
    assert group.last_counter == 99
    await path.issuance.close_blocks()
    assert path.ledger.closed == [group.block_id]


def renewed_profiles(known, description):
    """The snapshot after a new version of the profile: no block in hand pins it."""
    return replace(known, profiles={"test": version_of(replace(PERMISSIVE, description=description))})


async def test_a_block_that_has_no_room_is_closed_when_all_that_was_signed_in_it_is_stored():
    path = Path()
    items = (ITEM,) * 100
    for n in range(BLOCK_SIZE // 100 - 1):
        await path.sign(*items, request_id=str(n))
    path.ledger.open.clear()
    last = asyncio.create_task(path.sign(*items, request_id="the last that fits"))
    await settle()
    following = asyncio.create_task(path.sign(*items, request_id="the first of the next"))
    await settle()
    assert len(path.ledger.leases) == 2
    assert path.ledger.closed == []
    path.ledger.open.set()
    await last
    await following
    assert path.ledger.closed == [1]


async def test_a_block_that_does_not_pin_a_new_version_is_closed():
    path = Path()
    await path.sign(ITEM, request_id="1")
    path.known = renewed_profiles(path.known, "another")
    await path.sign(ITEM, request_id="2")
    assert path.ledger.closed == [1]
    await path.issuance.close_blocks()
    assert path.ledger.closed == [1, 2]


async def test_a_block_in_which_something_was_signed_and_not_stored_is_never_closed():
    path = Path()
    path.ledger.open.clear()
    first = asyncio.create_task(path.sign(ITEM, request_id="1"))
    await settle()
    behind = asyncio.create_task(path.sign(ITEM, request_id="2"))
    await settle()
    path.known = renewed_profiles(path.known, "another")
    next_block = asyncio.create_task(path.sign(ITEM, request_id="3"))
    await settle()
    path.ledger.before = fail_once(errors.StoreUnavailable("no answer"))
    path.ledger.open.set()
    with pytest.raises(errors.StoreUnavailable):
        await first
    await behind
    await next_block
    await path.issuance.close_blocks()
    assert path.ledger.closed == [2]


async def test_a_block_whose_last_signature_never_came_to_its_commit_is_not_closed():
    path = Path(known=snapshot(FailingSigner({2}, RuntimeError("a bug"))))
    await path.sign(ITEM, request_id="1")
    with pytest.raises(RuntimeError):
        await path.sign(ITEM, request_id="2")
    await path.issuance.close_blocks()
    assert path.ledger.closed == []


async def test_a_block_that_cannot_be_closed_stays_open_without_effect_on_others():
    path = Path()

    async def unreachable(_block_id, _worker_id):
        raise errors.StoreUnavailable("not now")

    path.ledger.close_block = unreachable
    await path.sign(ITEM, request_id="1")
    path.known = renewed_profiles(path.known, "another")
    assert (await path.sign(ITEM, request_id="2"))[0].serial


async def test_a_call_counts_until_its_commit_and_no_longer_whatever_becomes_of_it():
    path = Path()
    path.ledger.open.clear()
    given_up = asyncio.create_task(path.sign(ITEM))
    waits = asyncio.create_task(path.sign(ITEM, request_id="2"))
    await settle()
    with pytest.raises(errors.TooManyInFlight, match="2 of them for you"):
        path.admission.refuse_beyond(str(ADMIN), MAX_IN_PROGRESS * 3 // 4 - 1)
    given_up.cancel()
    path.ledger.open.set()
    await asyncio.wait({given_up, waits})
    with pytest.raises(errors.TooManyInFlight, match="0 of them for you"):
        path.admission.refuse_beyond(str(ADMIN), MAX_IN_PROGRESS)
    path.admission.refuse_beyond(str(ADMIN), MAX_IN_PROGRESS * 3 // 4)
