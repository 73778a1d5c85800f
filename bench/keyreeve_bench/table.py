"""The report of a bench for a person."""

from collections.abc import Iterable, Mapping
from typing import Any


def table(report: Mapping[str, Any]) -> str:
    """The report for a person."""
    rate, latency, database = report["certificates_per_second"], report["latency_ms"], report["database"]
    runs = len(report["runs"])
    rows = [
        ("certificates/s", f"{rate['median']:,.0f}   (min {rate['min']:,.0f}, max {rate['max']:,.0f}, {runs} runs)"),
        ("latency, ms", _percentiles(latency)),
        ("errors", _errors(report["errors"])),
        ("limits, per s", _limits(report)),
        ("of the limits", _ratios(report["ratios"])),
        ("CPU, us/certificate", _parts(report["cpu_us_per_certificate"])),
        ("memory (PSS), MB", _parts({name: _mega(value) for name, value in report["pss_bytes"].items()})),
        ("resident, MB", _parts({name: _mega(value) for name, value in report["rss_bytes"].items()})),
        ("fsync, us", _fsync(report["fsync_us"])),
        ("ledger", f"{database['kind'] or database['note']}, {_count(database['rows_before'])} certificates before"),
    ]
    rows += [(f"{name.replace('_', ' ')}, ms", _percentiles(told)) for name, told in report["reads_ms"].items() if told]
    if report["overload"] is not None:
        rows.append(("overload", _overload(report["overload"])))
    rows += [(name, _peer(peer)) for name, peer in report["peers"].items()]
    for one in report["checks"]:
        rows.append((f"check: {one['check']}", f"{_verdict(holds=one['ok'])}   {one['message']}"))
    for one in report["requirements"]:
        text = f"{_verdict(holds=one['holds'])}   {one['found']:,.2f} (wanted {one['wanted']:,.2f})"
        rows.append((f"require {one['require']}", text))
    width = max(len(name) for name, _ in rows)
    return "".join(f"{name.ljust(width)}  {text}\n" for name, text in rows)


def _verdict(*, holds: bool) -> str:
    return "ok" if holds else "FAILED"


def _peer(peer: Mapping[str, Any]) -> str:
    rate, latency = peer["certificates_per_second"], peer["latency_ms"]
    return f"{rate['median']:,.0f} certificates/s   p99 {latency['p99']:,.2f} ms   ({peer['settings']})"


def _percentiles(told: Mapping[str, float]) -> str:
    return "   ".join(f"{_shown(name)} {value:,.2f}" for name, value in told.items())


def _overload(told: Mapping[str, Any]) -> str:
    after = told["normal_after_seconds"]
    return (
        f"{told['goodput_per_second']:,.0f} certificates/s ({told['goodput_to_capacity']:.2f} of the capacity)   "
        f"p99 of {told['refused']:,} refusals {told['refusals_ms']['p99']:,.1f} ms   "
        f"normal after {'more than the time that was watched' if after is None else f'{after} s'}"
    )


def _shown(percentile: str) -> str:
    return {"p999": "p99.9"}.get(percentile, percentile)


def _errors(errors: Iterable[Mapping[str, Any]]) -> str:
    told = [f"{error['count']:,} {error['status']} {error['reason']}".rstrip() for error in errors]
    return ", ".join(told) or "none"


def _limits(report: Mapping[str, Any]) -> str:
    names = {"L": "limit_per_second", "E": "echo_per_second", "B": "bound_per_second"}
    return "   ".join(f"{short} {report[name]:,.0f}" for short, name in names.items())


def _ratios(told: Mapping[str, float | None]) -> str:
    names = {"to_limit": "L", "to_echo": "E", "to_bound": "B"}
    return "   ".join(
        f"{ratio:.2f} {names.get(name, name.removeprefix('to_'))}" for name, ratio in told.items() if ratio is not None
    )


def _parts(parts: Mapping[str, float | None]) -> str:
    return "   ".join(f"{name} {'-' if value is None else f'{value:,.0f}'}" for name, value in parts.items())


def _mega(value: int | None) -> float | None:
    return None if value is None else value / 1e6


def _fsync(fsync: Mapping[str, Any] | None) -> str:
    if fsync is None:
        return "not measured: the ledger's directory is not known or cannot be written from here"
    return f"{fsync['median']:,.0f} (p99 {fsync['p99']:,.0f})   {fsync['device']} {fsync['file_system']} at {fsync['path']}"


def _count(rows: int | None) -> str:
    return "an unknown number of" if rows is None else f"{rows:,}"
