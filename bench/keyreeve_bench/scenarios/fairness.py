"""`fairness`: latency of a light caller beside a heavy caller that requests 100 times as much.

The heavy caller keeps 256 single calls or 16 batches in flight. The light caller, with its own identity, is an open loop.
Runs without and with the heavy caller alternate.
"""

from typing import Any

from keyreeve_bench.control_planes import control_plane
from keyreeve_bench.recording import Tally
from keyreeve_bench.scenarios.scenario import Figure, Place, ratio
from keyreeve_bench.scenarios.tool import Tool, closed, errors_of, opened, together
from keyreeve_bench.session import Load

PART = 0.01
SINGLES = 256
BATCHES = 16
_IN_FLIGHT = 256


def run(place: Place) -> tuple[list[Figure], dict[str, Any]]:
    """Measure beside single calls, then beside batches. Raises `keyreeve.errors`."""
    figures: list[Figure] = []
    details: dict[str, Any] = {}
    with control_plane(place.directory, place.database) as state_directory:
        tool = Tool(state_directory, place.directory)
        other = tool.another("light")
        for form in ("single calls", "batches"):
            steps = closed(place.duration, SINGLES if form == "single calls" else BATCHES)
            heavy = tool.singles(*steps) if form == "single calls" else tool.batches(*steps)
            full = tool.go(heavy)[0].measured.rate
            # A hundredth of the heavy caller's rate, but enough calls in a run for a meaningful p99.
            rate = max(full * PART, 10.0)
            told = _alternate(
                tool, place.runs, heavy, tool.singles(*opened(place.duration, _IN_FLIGHT, rate), context=other)
            )
            details[form] = told | {
                "heavy_alone_per_second": round(full, 1),
                "light_calls_per_second": round(rate, 1),
            }
            alone, beside = told["alone_ms"]["p99"], told["beside_ms"]["p99"]
            figures += [
                Figure(f"{form}: p99 of the light caller alone", alone, "ms"),
                Figure(f"{form}: p99 of the light caller beside the heavy one", beside, "ms"),
                Figure(f"{form}: p99 beside / alone", ratio(beside, alone), at_most=3.0),
            ]
    return figures, {"forms": details}


def _alternate(tool: Tool, runs: int, heavy: Load, light: Load) -> dict[str, Any]:
    alone: list[Tally] = []
    beside: list[Tally] = []
    heavy_rates: list[float] = []
    for _ in range(runs):
        alone.append(tool.go(light)[0].measured)
        taken, shared = tool.go(heavy, light)
        heavy_rates.append(taken.measured.rate)
        beside.append(shared.measured)
    both = together(beside)
    return {
        "alone_ms": together(alone).latency_ms(),
        "beside_ms": both.latency_ms(),
        "heavy_beside_per_second": [round(rate, 1) for rate in heavy_rates],
        "errors": errors_of(both),
        "not_sent_calls": both.unsent,
    }
