"""`python -m keyreeve_bench.figures .bench/reports`: the reports of `make bench` as tables in Markdown.

It prints the section "Figures" of docs/load-testing.md: the machine, a table of the signing scenarios, and a table of the
figures of all other scenarios with their targets.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from keyreeve_bench.scenarios.scenario import shown
from keyreeve_bench.units import UNITS

Report = Mapping[str, Any]
_CALLS = (
    "scenario", "database", "certificates/s, median [min-max]", "signing limit", "echo rate", "combined bound",
    "certificates/s by these", "p50 / p99 / mean, ms",
    "CPU, us: service / database / client", "memory, MB: RSS / PSS", "errors", "checks",
)  # fmt: skip
_OTHERS = ("scenario", "database", "figure", "measured", "target", "met")


def figures(reports: Mapping[str, Report]) -> str:
    """Render reports, keyed by their file names without the suffix."""
    if not reports:
        return "There are no reports.\n"
    parts = [_machine(reports.values())]
    calls = {name: one for name, one in reports.items() if "certificates_per_second" in one}
    if calls:
        parts.append(_table(_CALLS, [_call(name, one) for name, one in calls.items()]))
        parts += [text for one in calls.values() if (text := _limits_apart(one))]
    overloads = [row for name, one in calls.items() if one.get("overload") for row in _overload(name, one)]
    baselines = [row for name, one in calls.items() for row in _baselines(name, one)]
    required = [row for name, one in calls.items() for row in _required(name, one)]
    others = [row for name, one in reports.items() for row in _others(name, one)]
    if rows := [*overloads, *baselines, *required, *others]:
        parts.append(_table(_OTHERS, rows))
    return "\n".join(parts)


def _machine(reports: Iterable[Report]) -> str:
    """The machines and disks of the reports, usually one."""
    told: dict[str, list[float]] = {}
    for one in reports:
        machine, fsync = one.get("machine"), one.get("fsync_us")
        if machine is None:
            continue
        memory = machine["memory_bytes"] / 2**30
        text = f"{machine['cores']} cores, {machine['cpu'] or 'unknown CPU'}, {memory:.0f} GiB, {machine['system']}"
        if fsync is not None:
            text += f"; {fsync['device']} ({fsync['file_system']})"
            told.setdefault(text, []).append(fsync["median"])
        else:
            told.setdefault(text, [])
    lines = []
    for text, fsyncs in told.items():
        spread = f", fsync of 4 KiB {min(fsyncs):,.0f} to {max(fsyncs):,.0f} us" if fsyncs else ""
        lines.append(f"Machine: {text}{spread}.\n")
    return "".join(lines)


def _call(name: str, one: Report) -> list[str]:
    rate, latency, cpu = one["certificates_per_second"], one["latency_ms"], one["cpu_us_per_certificate"]
    ratios = one["ratios"]
    scenario, database = _scenario_of(name)
    memory = [_number(_mega(one.get(key, {}).get("server"))) for key in ("rss_bytes", "pss_bytes")]
    return [
        scenario,
        database,
        f"{rate['median']:,.0f} [{rate['min']:,.0f}-{rate['max']:,.0f}]",
        *(f"{one[unit.rate_key]:,.0f}" for unit in UNITS),
        " / ".join(_number(ratios.get(unit.ratio_key)) for unit in UNITS),
        f"{latency['p50']:,.1f} / {latency['p99']:,.1f} / {latency['mean']:,.1f}",
        " / ".join(_number(cpu.get(key)) for key in ("server", "database", "client")),
        " / ".join(memory),
        f"{sum(error['count'] for error in one['errors']):,}",
        "good" if all(check["ok"] for check in one["checks"]) else "FAILED",
    ]


def _limits_apart(one: Report) -> str:
    """A warning when the signing limit changed by more than a fifth during the runs: the machine was busy otherwise."""
    found = one["limits"]["signing_limit_per_second"]
    if min(found) >= 0.8 * max(found):
        return ""
    kind = one["settings"]["batch"]
    return (
        f"The machine was not quiet: the signing limit went from {min(found):,.0f} to {max(found):,.0f} "
        f"during the runs of calls of {kind} ({one['database']['kind']}).\n"
    )


def _overload(name: str, one: Report) -> list[list[str]]:
    told = one["overload"]
    scenario, database = _scenario_of(name)
    after, late = told["normal_after_seconds"], told["refusals_ms"]
    refusals = f"{late['p50']:,.1f} / {late['p99']:,.1f} ms" if told["refused"] else "no call was refused"
    what = {
        "overload: goodput / capacity": _number(told["goodput_to_capacity"]),
        "overload: p50 / p99 of refusals": refusals,
        "overload: throughput recovered after": "never" if after is None else f"{after} s",
    }
    return [[scenario, database, key, value, "", ""] for key, value in what.items()]


def _baselines(name: str, one: Report) -> list[list[str]]:
    scenario, database = _scenario_of(name)
    return [
        [
            scenario,
            database,
            f"{baseline}, certificates/s (ours to it)",
            _baseline(told, one["ratios"].get(f"to_{baseline}")),
            "",
            "",
        ]
        for baseline, told in one["baselines"].items()
    ]


def _baseline(told: Mapping[str, Any], ratio: float | None) -> str:
    return f"{told['certificates_per_second']['median']:,.0f} ({'-' if ratio is None else f'{ratio:.1f}'})"


def _required(name: str, one: Report) -> list[list[str]]:
    scenario, database = _scenario_of(name)
    return [
        [scenario, database, told["require"], _number(told["measured"]), _number(told["target"]), _met(told["met"])]
        for told in one.get("requirements", [])
    ]


def _others(name: str, one: Report) -> list[list[str]]:
    scenario, database = _scenario_of(name)
    if why := one.get("error") or one.get("skipped"):
        return [[scenario, database, _cell(why), "", "", "no" if "error" in one else ""]]
    return [
        [scenario, database, told["name"], shown(told["value"], told["unit"]), told["target"], _met(told["met"])]
        for told in one.get("figures", [])
    ]


def _scenario_of(name: str) -> tuple[str, str]:
    scenario, _, database = name.rpartition("-")
    return scenario, database


def _met(met: bool | None) -> str:
    return "" if met is None else "yes" if met else "**no**"


def _number(value: float | None) -> str:
    return "-" if value is None else shown(value, "")


def _mega(value: float | None) -> float | None:
    return None if value is None else value / 1e6


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows)]
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str]) -> int:
    """Print the tables and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m keyreeve_bench.figures", description="Reports as Markdown.")
    parser.add_argument("reports", type=Path, nargs="?", default=Path(".bench/reports"))
    found = sorted(parser.parse_args(arguments).reports.glob("*.json"))
    reports = {file.stem: json.loads(file.read_text()) for file in found}
    sys.stdout.write(figures(reports))
    return 0 if reports else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
