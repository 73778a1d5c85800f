"""Two hundred enrollees with one token on both workers: one wins, and there is one certificate."""

import asyncio
import os

import pytest

from support.enrolling import address_of, enrolling_ca, new_token
from support.enrollment_race import ENROLLEES, LATE, csrs, race, settled
from support.running_ca import RunningCa

__all__ = ["enrolling_ca"]

ROUNDS = int(os.environ.get("KEYREEVE_TEST_ROUNDS", "1"))
"""A hundred take some minutes."""


def both(ca: RunningCa) -> list[str]:
    return [address_of(ca, 0), address_of(ca, 1)]


@pytest.mark.timed
async def test_of_two_hundred_keys_with_one_token_one_is_certified(enrolling_ca: RunningCa) -> None:
    for _ in range(ROUNDS):
        token = await asyncio.to_thread(new_token, enrolling_ca)
        outcomes = await race(both(enrolling_ca), token, csrs())
        told, certificates = settled(outcomes)
        late = told.pop(LATE, 0)
        assert set(told) <= {"TOKEN_USED"}
        assert told["TOKEN_USED"] + late + len(certificates) == ENROLLEES
        assert len(certificates) == 1 or late
        listed = await asyncio.to_thread(
            lambda token=token: list(enrolling_ca.client().certificates.list(identity=str(token.identity)))
        )
        assert [one.certificate_der for one in listed] == certificates or late
        assert len(listed) <= 1
        stored = enrolling_ca.read(lambda tx, token=token: tx.tokens.get(token.token_id))
        for one in listed:
            assert stored.spki_sha256 == one.spki_sha256
            assert stored.serial is None or stored.serial.hex() == one.serial


async def test_one_key_that_comes_many_times_at_once_gets_one_certificate(enrolling_ca: RunningCa) -> None:
    token = await asyncio.to_thread(new_token, enrolling_ca)
    [csr, *_] = csrs()
    told, certificates = settled(await race(both(enrolling_ca), token, [csr] * 40))
    assert set(told) <= {LATE}
    assert len(certificates) == 1
