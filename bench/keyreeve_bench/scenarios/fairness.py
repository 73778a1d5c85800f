"""`fairness`: what a greedy peer does to another one, which asks for a hundredth of as much.

The greedy one keeps 256 single calls, or 16 batches, in flight; the other, with an identity of its own, calls at fixed
moments. In turn without and with the greedy one.
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
    """Greedy in single calls, then in batches. Raises `keyreeve.errors`."""
    figures: list[Figure] = []
    details: dict[str, Any] = {}
    with control_plane(place.directory, place.database) as state_directory:
        tool = Tool(state_directory, place.directory)
        other = tool.another("modest")
        for form in ("single calls", "batches"):
            steps = closed(place.duration, SINGLES if form == "single calls" else BATCHES)
            greedy = tool.singles(*steps) if form == "single calls" else tool.batches(*steps)
            full = tool.go(greedy)[0].measured.rate
            # A hundredth of what the greedy peer gets, but enough calls in a run for a p99 to mean something.
            rate = max(full * PART, 10.0)
            told = _in_turn(
                tool, place.runs, greedy, tool.singles(*opened(place.duration, _IN_FLIGHT, rate), context=other)
            )
            details[form] = told | {
                "greedy_alone_per_second": round(full, 1),
                "other_calls_per_second": round(rate, 1),
            }
            alone, beside = told["alone_ms"]["p99"], told["beside_ms"]["p99"]
            figures += [
                Figure(f"greedy in {form}: p99 of the other alone", alone, "ms"),
                Figure(f"greedy in {form}: p99 of the other beside it", beside, "ms"),
                Figure(f"greedy in {form}: beside it to alone", ratio(beside, alone), at_most=3.0),
            ]
    return figures, {"forms": details}


def _in_turn(tool: Tool, runs: int, greedy: Load, other: Load) -> dict[str, Any]:
    alone: list[Tally] = []
    beside: list[Tally] = []
    gets: list[float] = []
    for _ in range(runs):
        alone.append(tool.go(other)[0].measured)
        taken, shared = tool.go(greedy, other)
        gets.append(taken.measured.rate)
        beside.append(shared.measured)
    both = together(beside)
    return {
        "alone_ms": together(alone).latency_ms(),
        "beside_ms": both.latency_ms(),
        "greedy_beside_per_second": [round(rate, 1) for rate in gets],
        "errors": errors_of(both),
        "not_sent_calls": both.unsent,
    }
