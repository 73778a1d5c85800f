"""`replicas`: two replicas on one PostgreSQL against one with as many workers.

Both are there at the same time, each with a database of its own on the same server, and are measured in turn. Two clients call at
once: one replica each, or both the one.
"""

import statistics
from collections.abc import Sequence
from typing import Any

from keyreeve_bench import postgresql
from keyreeve_bench.control_planes import replica
from keyreeve_bench.scenarios.scenario import Figure, Place, ScenarioSkipped, ratio
from keyreeve_bench.scenarios.tool import BATCHES, SINGLES, Tool, closed
from keyreeve_bench.session import Load

LEAST = 0.95


def run(place: Place) -> tuple[list[Figure], dict[str, Any]]:
    """Measure single calls, then batches. Raises `keyreeve.errors`, `ScenarioSkipped`."""
    if place.database != "postgresql":
        raise ScenarioSkipped("several replicas need PostgreSQL")
    directories = {name: place.directory / name for name in ("postgresql", "alone", "first", "second")}
    for directory in directories.values():
        directory.mkdir()
    with (
        postgresql.server(directories["postgresql"], "shared") as url,
        replica(directories["alone"], url, workers=2) as alone,
        replica(directories["first"], url.replace("/bench?", "/shared?"), workers=1) as first,
        replica(directories["second"], url.replace("/bench?", "/shared?"), workers=1, first=first) as second,
    ):
        tools = [
            Tool(each, directories[name]) for each, name in ((alone, "alone"), (first, "first"), (second, "second"))
        ]
        figures: list[Figure] = []
        details: dict[str, Any] = {}
        for form in ("single calls", "batches"):
            one, both = _alternate(tools[0], tools[1:], form, place)
            details[form] = {"one_per_second": one, "two_per_second": both}
            medians = [statistics.median(each) for each in (one, both)]
            # Of each pair in turn: what else the machine does changes from minute to minute.
            shares = [found for two, single in zip(both, one, strict=True) if (found := ratio(two, single)) is not None]
            figures += [
                Figure(f"{form}: one replica with two workers", medians[0], "certificates/s"),
                Figure(f"{form}: two replicas with one worker each", medians[1], "certificates/s"),
                Figure(f"{form}: two / one", statistics.median(shares), at_least=LEAST),
            ]
    return figures, {"forms": details}


def _alternate(alone: Tool, replicas: Sequence[Tool], form: str, place: Place) -> tuple[list[float], list[float]]:
    """Certificates per second of one replica and of two, in turn."""
    one: list[float] = []
    two: list[float] = []
    for _ in range(place.runs):
        one.append(_rate(alone, [_load(alone, form, place) for _ in replicas]))
        two.append(_rate(replicas[0], [_load(each, form, place) for each in replicas]))
    return one, two


def _load(tool: Tool, form: str, place: Place) -> Load:
    """Half of the usual calls in flight: there are two such loads at once."""
    if form == "batches":
        return tool.batches(*closed(place.duration, BATCHES // 2))
    return tool.singles(*closed(place.duration, SINGLES // 2))


def _rate(tool: Tool, loads: Sequence[Load]) -> float:
    return round(sum(outcome.measured.rate for outcome in tool.go(*loads)), 1)
