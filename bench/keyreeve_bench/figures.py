"""`python -m keyreeve_bench.figures .bench/reports`: the reports of `make bench` as tables in Markdown.

It prints what belongs below "Figures" in docs/load-testing.md: the machine, a table of the rows of calls, and one of the
figures of all other rows with what was wanted of them.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from keyreeve_bench.scenarios.scenario import shown

Report = Mapping[str, Any]
_CALLS = (
    "row", "database", "certificates/s, median [min-max]", "L", "E", "B", "of the limits", "p50 / p99 / mean, ms",
    "CPU, us: service / database / client", "memory, MB: RSS / PSS", "errors", "checks",
)  # fmt: skip
_OTHERS = ("row", "database", "what", "found", "wanted", "held")


def figures(reports: Mapping[str, Report]) -> str:
    """All of it; reports by the names of their files without the suffix."""
    if not reports:
        return "There are no reports.\n"
    parts = [_machine(reports.values())]
    calls = {name: one for name, one in reports.items() if "certificates_per_second" in one}
    if calls:
        parts.append(_table(_CALLS, [_call(name, one) for name, one in calls.items()]))
        parts += [text for one in calls.values() if (text := _limits_apart(one))]
    overloads = [row for name, one in calls.items() if one.get("overload") for row in _overload(name, one)]
    peers = [row for name, one in calls.items() for row in _peers(name, one)]
    required = [row for name, one in calls.items() for row in _required(name, one)]
    others = [row for name, one in reports.items() for row in _others(name, one)]
    if rows := [*overloads, *peers, *required, *others]:
        parts.append(_table(_OTHERS, rows))
    return "\n".join(parts)


def _machine(reports: Iterable[Report]) -> str:
    """Each machine and disk that the reports come from: one, as a rule."""
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
    short = {"to_limit": "L", "to_echo": "E", "to_bound": "B"}
    row, database = _row_of(name)
    memory = [_number(_mega(one.get(key, {}).get("server"))) for key in ("rss_bytes", "pss_bytes")]
    return [
        row,
        database,
        f"{rate['median']:,.0f} [{rate['min']:,.0f}-{rate['max']:,.0f}]",
        *(f"{one[key]:,.0f}" for key in ("limit_per_second", "echo_per_second", "bound_per_second")),
        ", ".join(f"{ratios[key]:.2f} {text}" for key, text in short.items() if ratios.get(key) is not None),
        f"{latency['p50']:,.1f} / {latency['p99']:,.1f} / {latency['mean']:,.1f}",
        " / ".join(_number(cpu.get(key)) for key in ("server", "database", "client")),
        " / ".join(memory),
        f"{sum(error['count'] for error in one['errors']):,}",
        "good" if all(check["ok"] for check in one["checks"]) else "FAILED",
    ]


def _limits_apart(one: Report) -> str:
    """A warning when the limits changed by more than a fifth meanwhile: the machine did something else as well."""
    found = one["limits"]["limit_per_second"]
    if min(found) >= 0.8 * max(found):
        return ""
    kind = one["settings"]["batch"]
    return (
        f"The machine was not quiet: L went from {min(found):,.0f} to {max(found):,.0f} while calls of {kind} ran "
        f"({one['database']['kind']}).\n"
    )


def _overload(name: str, one: Report) -> list[list[str]]:
    told = one["overload"]
    row, database = _row_of(name)
    after, late = told["normal_after_seconds"], told["refusals_ms"]
    refusals = f"{late['p50']:,.1f} / {late['p99']:,.1f} ms" if told["refused"] else "none was refused"
    what = {
        "overload: goodput of the capacity": _number(told["goodput_to_capacity"]),
        "overload: p50 / p99 of refusals": refusals,
        "overload: throughput normal after": "never" if after is None else f"{after} s",
    }
    return [[row, database, key, value, "", ""] for key, value in what.items()]


def _peers(name: str, one: Report) -> list[list[str]]:
    row, database = _row_of(name)
    return [
        [row, database, f"{peer}, certificates/s (ours to it)", _peer(told, one["ratios"].get(f"to_{peer}")), "", ""]
        for peer, told in one["peers"].items()
    ]


def _peer(told: Mapping[str, Any], ratio: float | None) -> str:
    return f"{told['certificates_per_second']['median']:,.0f} ({'-' if ratio is None else f'{ratio:.1f}'})"


def _required(name: str, one: Report) -> list[list[str]]:
    row, database = _row_of(name)
    return [
        [row, database, told["require"], _number(told["found"]), _number(told["wanted"]), _held(told["holds"])]
        for told in one.get("requirements", [])
    ]


def _others(name: str, one: Report) -> list[list[str]]:
    row, database = _row_of(name)
    if why := one.get("error") or one.get("skipped"):
        return [[row, database, _cell(why), "", "", "no" if "error" in one else ""]]
    return [
        [row, database, told["name"], shown(told["value"], told["unit"]), told["wanted"], _held(told["held"])]
        for told in one.get("figures", [])
    ]


def _row_of(name: str) -> tuple[str, str]:
    row, _, database = name.rpartition("-")
    return row, database


def _held(held: bool | None) -> str:
    return "" if held is None else "yes" if held else "**no**"


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
    """Print the tables; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m keyreeve_bench.figures", description="Reports as Markdown.")
    parser.add_argument("reports", type=Path, nargs="?", default=Path(".bench/reports"))
    found = sorted(parser.parse_args(arguments).reports.glob("*.json"))
    reports = {file.stem: json.loads(file.read_text()) for file in found}
    sys.stdout.write(figures(reports))
    return 0 if reports else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
