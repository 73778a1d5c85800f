"""The report of `keyreeve bench sign` as text."""

from collections.abc import Iterable, Mapping
from typing import Any

from keyreeve_bench.units import UNITS


def table(report: Mapping[str, Any]) -> str:
    """Render the report as aligned lines."""
    rate, latency, database = report["certificates_per_second"], report["latency_ms"], report["database"]
    runs = len(report["runs"])
    rows = [
        ("certificates/s", f"{rate['median']:,.0f}   (min {rate['min']:,.0f}, max {rate['max']:,.0f}, {runs} runs)"),
        ("latency, ms", _percentiles(latency)),
        ("errors", _errors(report["errors"])),
        ("limits, per s", f"{_limits(report)}   (echo by {report['limits']['echo_client']})"),
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
    rows += [(name, _baseline(one)) for name, one in report["baselines"].items()]
    for one in report["checks"]:
        rows.append((f"check: {one['check']}", f"{_verdict(ok=one['ok'])}   {one['message']}"))
    for one in report["requirements"]:
        text = f"{_verdict(ok=one['met'])}   {one['measured']:,.2f} (target {one['target']:,.2f})"
        rows.append((f"require {one['require']}", text))
    width = max(len(name) for name, _ in rows)
    return "".join(f"{name.ljust(width)}  {text}\n" for name, text in rows)


def _verdict(*, ok: bool) -> str:
    return "ok" if ok else "FAILED"


def _baseline(one: Mapping[str, Any]) -> str:
    rate, latency = one["certificates_per_second"], one["latency_ms"]
    return f"{rate['median']:,.0f} certificates/s   p99 {latency['p99']:,.2f} ms   ({one['settings']})"


def _percentiles(told: Mapping[str, float]) -> str:
    return "   ".join(f"{_shown(name)} {value:,.2f}" for name, value in told.items())


def _overload(told: Mapping[str, Any]) -> str:
    after = told["normal_after_seconds"]
    return (
        f"{told['goodput_per_second']:,.0f} certificates/s ({told['goodput_to_capacity']:.2f} of capacity)   "
        f"p99 of {told['refused']:,} refusals {told['refusals_ms']['p99']:,.1f} ms   "
        f"recovered after {'more than the observed time' if after is None else f'{after} s'}"
    )


def _shown(percentile: str) -> str:
    return {"p999": "p99.9"}.get(percentile, percentile)


def _errors(errors: Iterable[Mapping[str, Any]]) -> str:
    told = [f"{error['count']:,} {error['status']} {error['reason']}".rstrip() for error in errors]
    return ", ".join(told) or "none"


def _limits(report: Mapping[str, Any]) -> str:
    return "   ".join(f"{unit.text} {report[unit.rate_key]:,.0f}" for unit in UNITS)


def _ratios(ratios: Mapping[str, float | None]) -> str:
    names = {unit.ratio_key: unit.text for unit in UNITS}
    return "   ".join(
        f"{ratio:.2f} {names.get(name, name.removeprefix('to_'))}"
        for name, ratio in ratios.items()
        if ratio is not None
    )


def _parts(parts: Mapping[str, float | None]) -> str:
    return "   ".join(f"{name} {'-' if value is None else f'{value:,.0f}'}" for name, value in parts.items())


def _mega(value: int | None) -> float | None:
    return None if value is None else value / 1e6


def _fsync(fsync: Mapping[str, Any] | None) -> str:
    if fsync is None:
        return "not measured: the ledger's directory is unknown or not writable"
    return f"{fsync['median']:,.0f} (p99 {fsync['p99']:,.0f})   {fsync['device']} {fsync['file_system']} at {fsync['path']}"


def _count(rows: int | None) -> str:
    return "an unknown number of" if rows is None else f"{rows:,}"
