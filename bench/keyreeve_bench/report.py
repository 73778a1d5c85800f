"""Report of a benchmark as one JSON document; `table` renders it as text."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from keyreeve_bench.bench import Bench
from keyreeve_bench.checks import Check
from keyreeve_bench.recording import Tally, percentiles_ms
from keyreeve_bench.session import Outcome
from keyreeve_bench.units import COMBINED_BOUND, ECHO_RATE, SIGNING_LIMIT


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, minimum and maximum; zeros when there are no values."""
    if not values:
        return {"median": 0.0, "min": 0.0, "max": 0.0}
    return {
        "median": round(statistics.median(values), 1),
        "min": round(min(values), 1),
        "max": round(max(values), 1),
    }


def combined_bound(echo_rate: float, signing_limit: float) -> float:
    """Upper bound of single calls per second when transport and cryptography are the only work."""
    return 1 / (1 / echo_rate + 1 / signing_limit) if echo_rate and signing_limit else 0.0


def ratios(
    rate: float, signing_limit: float, echo_rate: float, baselines: Mapping[str, Any]
) -> dict[str, float | None]:
    """The measured rate divided by each limit and by the rate of each baseline in the same session."""
    references = {
        SIGNING_LIMIT.ratio_key: signing_limit,
        ECHO_RATE.ratio_key: echo_rate,
        COMBINED_BOUND.ratio_key: combined_bound(echo_rate, signing_limit),
    }
    references |= {f"to_{name}": one["certificates_per_second"]["median"] for name, one in baselines.items()}
    return {name: round(rate / value, 3) if value else None for name, value in references.items()}


def report_of(
    bench: Bench, facts: dict[str, Any], checks: Sequence[Check], baseline_settings: Mapping[str, str]
) -> dict[str, Any]:
    """Build the report."""
    total = _together([outcome.measured for outcome in bench.outcomes])
    rates = spread([outcome.measured.rate for outcome in bench.outcomes])
    signing_limit, echo_rate = statistics.median(bench.signing_limits), statistics.median(bench.echo_rates)
    baselines = {
        name: {
            "certificates_per_second": spread([run.rate for run in runs]),
            "latency_ms": _together(runs).latency_ms(),
            "errors": _errors(_together(runs)),
            "settings": baseline_settings[name],
        }
        for name, runs in bench.baselines.items()
    }
    return {
        "kind": bench.settings.kind,
        "certificates_per_second": rates,
        "latency_ms": total.latency_ms(),
        "refusals_ms": percentiles_ms(total.refusals),
        SIGNING_LIMIT.rate_key: round(signing_limit, 1),
        ECHO_RATE.rate_key: round(echo_rate, 1),
        COMBINED_BOUND.rate_key: round(combined_bound(echo_rate, signing_limit), 1),
        "ratios": ratios(rates["median"], signing_limit, echo_rate, baselines),
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
        "limits": {
            SIGNING_LIMIT.rate_key: _rounded(bench.signing_limits),
            ECHO_RATE.rate_key: _rounded(bench.echo_rates),
            "echo_client": bench.echo_client,
        },
        "runs": [_run_document(outcome) for outcome in bench.outcomes],
        "sweep": [asdict(point) for point in bench.points],
        "overload": None if bench.overload is None else bench.overload.to_document(),
        "baselines": baselines,
        "checks": [check.to_document() for check in checks],
        "settings": bench.settings.to_document(),
    }


def _most(runs: Sequence[Mapping[str, int]]) -> dict[str, int | None]:
    return {
        name: max((one[name] for one in runs if name in one), default=None) for name in ("server", "database", "client")
    }


def _run_document(outcome: Outcome) -> dict[str, Any]:
    measured = outcome.measured
    return {
        "certificates_per_second": round(measured.rate, 1),
        "latency_ms": measured.latency_ms(),
        "errors": _errors(measured),
        "repeated": outcome.repeated,
        "certificates_by_second": measured.per_second,
        "slowest_ms_by_second": [round(micros / 1000, 3) for micros in measured.slowest_per_second],
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
