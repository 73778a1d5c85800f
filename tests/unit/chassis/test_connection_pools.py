"""Pools of connections: as many replicas as there are, their connections fit."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyreeve_ca.settings import CaSettings
from keyreeve_chassis.settings.pools import LARGEST_POOL, ConnectionPlan, ServerLimits
from keyreeve_chassis.settings.sections import DatabaseServerSettings

MANY = ServerLimits(97)
"""PostgreSQL's default of 100 without the three for administrators."""


def ca(replicas: int, workers: int = 2) -> ConnectionPlan:
    settings = CaSettings(workers=workers)
    database = settings.database.model_copy(update={"replicas": replicas})
    return settings.model_copy(update={"database": database}).connection_plan


def other(replicas: int) -> ConnectionPlan:
    return ConnectionPlan(replicas, pools=1, share=0.25)


@pytest.mark.parametrize(("replicas", "sizes"), [(1, (4, 4)), (2, (3, 4)), (3, (2, 3)), (6, (1, 1))])
def test_more_replicas_have_smaller_pools(replicas: int, sizes: tuple[int, int]) -> None:
    assert (ca(replicas).pool_size(MANY), other(replicas).pool_size(MANY)) == sizes


def test_the_limit_of_a_role_goes_before_a_share_of_the_server() -> None:
    assert other(2).pool_size(ServerLimits(97, of_role=9)) == 1
    assert ca(2).pool_size(ServerLimits(1000, of_role=24)) == 1
    assert ca(2).pool_size(ServerLimits(1000)) == LARGEST_POOL


def test_the_settings_may_say_how_large_a_pool_is() -> None:
    assert ConnectionPlan(2, pools=1, share=0.25, pool=2).pool_size(ServerLimits(10_000)) == 2


@given(st.integers(1, 20), st.integers(1, 16), st.integers(0, 5_000), st.one_of(st.just(-1), st.integers(0, 500)))
def test_whatever_there_is_fits_unless_not_even_one_connection_each_does(
    replicas: int, workers: int, connections: int, of_role: int
) -> None:
    plans = [ca(replicas, workers), other(replicas), other(replicas)]
    limits = ServerLimits(connections, of_role)
    for plan in plans:
        size = plan.pool_size(limits)
        assert 1 <= size <= LARGEST_POOL
        assert plan.most(limits) <= plan.budget(limits) or size == 1
    if of_role < 0 and all(plan.most(limits) <= plan.budget(limits) for plan in plans):
        assert sum(plan.most(limits) for plan in plans) <= connections * 0.9


def test_every_service_with_a_database_has_a_plan() -> None:
    assert DatabaseServerSettings.connection_plan.fget is not CaSettings.connection_plan.fget
