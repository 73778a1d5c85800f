"""`overload`: three times the capacity in two forms, with single calls at a tenth of the capacity beside it.

The overload of batches is an open loop at three times the measured rate; that of single calls is three times as many calls
in flight. An open loop of single calls runs before, during and after it: the service has recovered when the p99 of a slice of
half a second is at most twice the p99 before.
"""

import itertools
from dataclasses import replace
from typing import Any

from keyreeve_bench.control_planes import control_plane
from keyreeve_bench.recording import Tally, percentiles_ms
from keyreeve_bench.scenarios.scenario import Figure, Place, ratio
from keyreeve_bench.scenarios.tool import BATCH, BATCHES, SINGLES, Tool, errors_of
from keyreeve_bench.session import MEASURED, WARM_UP, Load, Outcome, Step

FACTOR = 3
SECONDS = 30.0
SLICE = 0.5
SLICES = 20
NORMAL = 2.0
"""Multiple of the p99 before the overload that counts as recovered."""
_BESIDE = 0.1
_IN_FLIGHT = 1024
"""Calls in flight of an open loop, at most."""
_TIMEOUT = 10.0
_ALMOST_ZERO = 0.05
"""Calls per second of the overloading client before the overload, so that the single calls are alone."""


def run(place: Place) -> tuple[list[Figure], dict[str, Any]]:
    """Run both forms against one control plane. Raises `keyreeve.errors`."""
    figures: list[Figure] = []
    details: dict[str, Any] = {}
    seconds = SECONDS if place.duration >= 10 else place.duration
    with control_plane(place.directory, place.database) as state_directory:
        tool = Tool(state_directory, place.directory)
        unary = tool.capacity("unary", place.duration).rate
        for form in ("batches, open loop", "single calls, in flight"):
            batches = form.startswith("batches")
            capacity = tool.capacity("batch", place.duration).rate if batches else unary
            steps = _batch_steps(seconds, capacity) if batches else _single_steps(seconds)
            load = tool.batches(*steps) if batches else tool.singles(*steps)
            over, single = tool.go(_with_timeout(load), _beside(tool, seconds, unary))
            told = _told(capacity, over.measured, single)
            details[form] = told
            figures += _figures(form, told)
    return figures, {"overload_seconds": seconds, "forms": details}


def _figures(form: str, told: dict[str, Any]) -> list[Figure]:
    # Without refusals there is no refusal latency; it still fails when calls ran into their deadlines instead.
    refused, failed = told["refused"], bool(told["errors"])
    p50, p99 = (told["refusals_ms"][name] if refused else None for name in ("p50", "p99"))
    return [
        Figure(f"{form}: goodput / capacity", told["goodput_to_capacity"]),
        Figure(f"{form}: refused", float(refused)),
        Figure(f"{form}: p50 of refusals", p50, "ms"),
        Figure(f"{form}: p99 of refusals", p99, "ms", at_most=50.0 if refused or failed else None),
        Figure(f"{form}: p99 of single calls before", told["single_ms"]["before"]["p99"], "ms"),
        Figure(f"{form}: p99 of single calls during", told["single_ms"]["during"]["p99"], "ms"),
        Figure(f"{form}: recovered after", told["normal_after_seconds"], "s", at_most=2.0),
    ]


def _batch_steps(seconds: float, capacity: float) -> list[Step]:
    rate = capacity * FACTOR / BATCH
    return [
        Step(WARM_UP, min(seconds, 6.0), 2, _ALMOST_ZERO),
        Step(MEASURED, seconds, max(BATCHES * FACTOR, min(_IN_FLIGHT, int(rate * _TIMEOUT))), rate),
    ]


def _single_steps(seconds: float) -> list[Step]:
    return [Step(WARM_UP, min(seconds, 6.0), 2, _ALMOST_ZERO), Step(MEASURED, seconds, SINGLES * FACTOR)]


def _with_timeout(load: Load) -> Load:
    return replace(load, timeout=_TIMEOUT)


def _beside(tool: Tool, seconds: float, capacity: float) -> Load:
    rate = max(20.0, capacity * _BESIDE)
    before = min(seconds, 6.0)
    steps = [
        Step("first", before / 3, _IN_FLIGHT, rate),
        Step("before", before - before / 3, _IN_FLIGHT, rate),
        Step(MEASURED, seconds, _IN_FLIGHT, rate),
        *(Step(_slice(n), SLICE, _IN_FLIGHT, rate) for n in range(SLICES)),
    ]
    return _with_timeout(tool.singles(*steps))


def _slice(number: int) -> str:
    return f"after {number * SLICE:g} s"


def _told(capacity: float, over: Tally, single: Outcome) -> dict[str, Any]:
    before = single.phases["before"]
    slices = [single.phases[_slice(number)] for number in range(SLICES)]
    return {
        "capacity_per_second": round(capacity, 1),
        "goodput_per_second": round(over.rate, 1),
        "goodput_to_capacity": ratio(over.rate, capacity),
        "latency_ms": over.latency_ms(),
        "refused": sum(n for (status, _), n in over.errors.items() if status == "RESOURCE_EXHAUSTED"),
        "refusals_ms": percentiles_ms(over.refusals),
        "not_sent_calls": over.unsent,
        "errors": errors_of(over),
        "single_ms": {"before": before.latency_ms(), "during": single.measured.latency_ms()},
        "single_errors": errors_of(single.measured),
        "normal_after_seconds": normal_after(before, slices),
        "after_p99_ms": [one.latency_ms()["p99"] for one in slices],
        "after_errors": [sum(one.errors.values()) for one in slices],
    }


def normal_after(before: Tally, slices: list[Tally]) -> float | None:
    """Seconds until the first of two consecutive slices that have recovered; None when there are none."""
    most = before.latency_ms()["p99"] * NORMAL
    good = [bool(one.calls) and not one.errors and one.latency_ms()["p99"] <= most for one in slices]
    return next((round((n + 1) * SLICE, 1) for n, pair in enumerate(itertools.pairwise(good)) if all(pair)), None)
