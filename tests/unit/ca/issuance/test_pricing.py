"""The price of a request to sign follows its size."""

import asyncio

import pytest

from fakes.signing_path import ADMIN, Path, settle
from keyreeve import errors
from keyreeve.keys import make_csr, make_key
from keyreeve.values import Name, NameType
from keyreeve.values import Name as CaName
from keyreeve_ca.issuance.batching import MAX_IN_PROGRESS, price
from keyreeve_ca.issuance.service import SignItem

KEY = make_key()


def item(names: int) -> SignItem:
    return SignItem("test", make_csr(KEY, [Name.dns(f"{'a' * 20}.{n}.example.test") for n in range(names)]))


def test_a_certificate_of_one_name_counts_once_and_one_of_a_hundred_names_several_times():
    assert price([item(1).size]) == 1
    assert 4 <= price([item(100).size]) <= 5
    assert price([item(1).size] * 100) == 100


def test_names_beside_the_request_count_too():
    beside = tuple(CaName(NameType.DNS, f"{'b' * 60}.{n}.example.test") for n in range(100))
    assert price([SignItem("test", item(1).csr, beside).size]) > 5


def test_the_largest_request_there_is_may_still_be_made():
    assert price([24 * 1024] * 100) < MAX_IN_PROGRESS * 3 // 4


async def test_a_request_of_many_names_takes_as_much_of_its_callers_share_as_it_costs():
    path = Path()
    path.ledger.open.clear()
    waiting = asyncio.create_task(path.sign(*[item(100)] * 10))
    await settle()
    with pytest.raises(errors.TooManyInFlight, match=r"(40|50) of them for you"):
        path.admission.refuse_beyond(str(ADMIN), MAX_IN_PROGRESS)
    path.ledger.open.set()
    await waiting
