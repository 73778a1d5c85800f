"""What is measured of the machine, and what the signing path makes of it."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from keyreeve_ca.host_tuning import FILE, Machine, choose, machine, read

QUICK = Machine("boot", (0, 1), math.inf, wake_same=3e-6, wake_other=6e-6, fsync=25e-6)
DEAR = replace(QUICK, wake_other=85e-6)


@pytest.mark.parametrize("wake", [15e-6, 85e-6])
def test_where_waking_another_core_is_dear_each_worker_stays_on_one_and_calls_gather_for_longer(wake: float) -> None:
    dear, quick = (choose(replace(QUICK, wake_other=one), pin="auto", gather_ms="auto") for one in (wake, 6e-6))
    assert (dear.pinned, quick.pinned) == (True, False)
    assert dear.gather > quick.gather > 0
    assert [dear.core_of(DEAR, index) for index in range(3)] == [0, 1, 0]
    assert quick.core_of(QUICK, 0) is None


def test_cores_that_are_shared_by_quota_are_nobody_s_own() -> None:
    assert not choose(replace(DEAR, quota=1.5), pin="auto", gather_ms="auto").pinned


def test_one_core_is_not_pinned_to() -> None:
    assert not choose(replace(DEAR, cores=(3,)), pin="auto", gather_ms="auto").pinned


def test_the_settings_have_the_last_word() -> None:
    assert choose(QUICK, pin="on", gather_ms="auto").pinned
    assert not choose(DEAR, pin="off", gather_ms="auto").pinned
    assert choose(DEAR, pin="auto", gather_ms=7.5).gather == 0.0075


@pytest.mark.parametrize(
    ("cores", "quota", "workers"), [((0, 1), math.inf, 2), ((0, 1, 2, 3), 1.5, 2), ((0,), 0.2, 1), ((4, 7), 2.0, 2)]
)
def test_there_are_as_many_workers_as_cores_worth_of_time(cores: tuple[int, ...], quota: float, workers: int) -> None:
    assert replace(QUICK, cores=cores, quota=quota).workers == workers


def test_a_real_machine_is_measured_once_for_each_boot(tmp_path: Path) -> None:
    first = machine(tmp_path)
    assert first.fsync > 0
    assert (first.wake_other > 0) is (len(first.cores) > 1)
    assert read(tmp_path) == first == machine(tmp_path)
    document = json.loads((tmp_path / FILE).read_text())
    (tmp_path / FILE).write_text(json.dumps({**document, "boot": "an earlier one", "fsync": 42.0}))
    assert machine(tmp_path).fsync < 42


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"cores": 3}', "null"])
def test_a_measurement_that_cannot_be_read_is_made_anew(tmp_path: Path, content: str) -> None:
    (tmp_path / FILE).write_text(content)
    assert read(tmp_path) is None
    assert machine(tmp_path) == read(tmp_path)
