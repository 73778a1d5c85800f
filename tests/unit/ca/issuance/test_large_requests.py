"""However large the requests are that wait together: groups stay small enough to be carried, failures to be answered."""

import asyncio

from fakes.signing_path import FakeLedger, Path, settle
from keyreeve.keys import make_csr, make_key
from keyreeve.values import Name, NameType
from keyreeve.values import Name as CaName
from keyreeve_ca.issuance.commit_queue import MAX_FAILURE_CHARACTERS, MAX_GROUP_BYTES
from keyreeve_ca.issuance.service import RETRY_AFTER, SignItem
from keyreeve_ca.ledger.ports import ItemFailure
from keyreeve_chassis.guard.admission import FairShare

KEY = make_key()
GOOD = SignItem("test", make_csr(KEY, [Name.dns("web.example.test")]))
LARGE = SignItem("test", make_csr(KEY, [Name.dns(f"{'a' * 60}.{'b' * 60}.{n}.example.test") for n in range(40)]))


def many_bad_names(number: int) -> SignItem:
    return SignItem("test", GOOD.csr, tuple(CaName(NameType.DNS, f"{'Bad' * 20}{n}.test") for n in range(number)))


async def test_an_item_with_hundreds_of_bad_names_is_refused_in_few_words():
    path = Path()
    [_, refused] = await path.sign(GOOD, many_bad_names(90))
    [_, stored] = path.ledger.groups[0].requests[0].items
    assert isinstance(stored, ItemFailure)
    kept = len(stored.message) + sum(len(key) + len(value) for key, value in stored.metadata.items())
    assert kept <= MAX_FAILURE_CHARACTERS + 20
    assert int(stored.metadata["omitted"]) > 50
    assert refused.reason == "NAME_REFUSED"


async def test_requests_that_are_large_together_are_committed_in_groups_that_can_be_carried():
    path = Path(FakeLedger(), admission=FairShare("certificates", 100_000, RETRY_AFTER))
    path.ledger.open.clear()
    waiting = [asyncio.create_task(path.sign(*[LARGE] * 10, request_id=str(n))) for n in range(60)]
    await settle()
    path.ledger.open.set()
    await asyncio.gather(*waiting)
    assert sum(len(group.requests) for group in path.ledger.groups) == 60
    for group in path.ledger.groups:
        carried = sum(len(item.der) + len(item.csr) for request in group.requests for item in request.items)
        assert carried <= MAX_GROUP_BYTES


async def test_refused_items_count_in_the_size_of_a_group():
    path = Path(FakeLedger(), admission=FairShare("certificates", 100_000, RETRY_AFTER))
    path.ledger.open.clear()
    waiting = [asyncio.create_task(path.sign(GOOD, *[many_bad_names(20)] * 99, request_id=str(n))) for n in range(40)]
    await settle()
    path.ledger.open.set()
    await asyncio.gather(*waiting)
    most = max(len(group.requests) for group in path.ledger.groups)
    assert most * 99 * MAX_FAILURE_CHARACTERS <= MAX_GROUP_BYTES
