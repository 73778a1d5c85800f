"""What a bench tells in the end: one document; `table` makes from it what people read."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from keyreeve_bench.bench import Bench
from keyreeve_bench.checks import Check
from keyreeve_bench.recording import Tally, percentiles_ms
from keyreeve_bench.session import Outcome


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, minimum and maximum; zeros when there is nothing."""
    if not values:
        return {"median": 0.0, "min": 0.0, "max": 0.0}
    return {
        "median": round(statistics.median(values), 1),
        "min": round(min(values), 1),
        "max": round(max(values), 1),
    }


def bound(echo: float, limit: float) -> float:
    """B: what one-by-one calls can reach when transport and cryptography are all the work there is."""
    return 1 / (1 / echo + 1 / limit) if echo and limit else 0.0


def ratios(rate: float, limit: float, echo: float, peers: Mapping[str, Any]) -> dict[str, float | None]:
    """The measured rate in terms of the limits, and of each peer's own rate in the same session."""
    goals = {"to_limit": limit, "to_echo": echo, "to_bound": bound(echo, limit)}
    goals |= {f"to_{name}": peer["certificates_per_second"]["median"] for name, peer in peers.items()}
    return {name: round(rate / goal, 3) if goal else None for name, goal in goals.items()}


def report_of(
    bench: Bench, facts: dict[str, Any], checks: Sequence[Check], peer_settings: Mapping[str, str]
) -> dict[str, Any]:
    """The whole document."""
    total = _together([outcome.measured for outcome in bench.outcomes])
    rates = spread([outcome.measured.rate for outcome in bench.outcomes])
    limit, echo = statistics.median(bench.limits), statistics.median(bench.echoes)
    told_peers = {
        name: {
            "certificates_per_second": spread([run.rate for run in runs]),
            "latency_ms": _together(runs).latency_ms(),
            "errors": _errors(_together(runs)),
            "settings": peer_settings[name],
        }
        for name, runs in bench.peers.items()
    }
    return {
        "kind": bench.settings.kind,
        "certificates_per_second": rates,
        "latency_ms": total.latency_ms(),
        "refusals_ms": percentiles_ms(total.refusals),
        "limit_per_second": round(limit, 1),
        "echo_per_second": round(echo, 1),
        "bound_per_second": round(bound(echo, limit), 1),
        "ratios": ratios(rates["median"], limit, echo, told_peers),
        "errors": _errors(total),
        "not_sent": total.unsent * bench.settings.batch,
        "cpu_us_per_certificate": {
            name: _mean(
                [1e6 * one.cpu_seconds[name] / one.measured.certificates for one in _with(bench.outcomes, name)]
            )
            for name in ("server", "database", "client", "workers", "coordinator")
        },
        "rss_bytes": _most([one.rss_bytes for one in bench.outcomes]),
        "pss_bytes": _most([one.pss_bytes for one in bench.outcomes]),
        **facts,
        "limits": {"limit_per_second": _rounded(bench.limits), "echo_per_second": _rounded(bench.echoes)},
        "runs": [_run_document(outcome) for outcome in bench.outcomes],
        "sweep": [asdict(point) for point in bench.points],
        "overload": None if bench.overload is None else bench.overload.to_document(),
        "peers": told_peers,
        "checks": [check.to_document() for check in checks],
        "settings": bench.settings.to_document(),
    }


def _most(runs: Sequence[Mapping[str, int]]) -> dict[str, int | None]:
    return {
        name: max((one[name] for one in runs if name in one), default=None) for name in ("server", "database", "client")
    }


def _run_document(outcome: Outcome) -> dict[str, Any]:
    told = outcome.measured
    return {
        "certificates_per_second": round(told.rate, 1),
        "latency_ms": told.latency_ms(),
        "errors": _errors(told),
        "repeated": outcome.repeated,
        "certificates_by_second": told.per_second,
        "slowest_ms_by_second": [round(micros / 1000, 3) for micros in told.slowest_per_second],
    }


def _together(tallies: list[Tally]) -> Tally:
    total = Tally()
    for tally in tallies:
        total.then(tally)
    return total


def _errors(tally: Tally) -> list[dict[str, Any]]:
    return [{"status": status, "reason": reason, "count": n} for (status, reason), n in tally.errors.most_common()]


def _with(outcomes: list[Outcome], name: str) -> list[Outcome]:
    return [one for one in outcomes if name in one.cpu_seconds and one.measured.certificates]


def _mean(values: list[float]) -> float | None:
    return round(statistics.fmean(values), 1) if values else None


def _rounded(values: list[float]) -> list[float]:
    return [round(value, 1) for value in values]
