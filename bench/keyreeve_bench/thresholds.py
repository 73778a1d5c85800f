"""Thresholds such as `unary>=0.8combined-bound`, which decide the exit code of a benchmark."""

import operator
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from keyreeve.errors import FieldInvalid
from keyreeve_bench.settings import BASELINES
from keyreeve_bench.units import UNITS

_FORM = re.compile(r"\s*([a-z_0-9]+)\s*(>=|<=|>|<)\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z%-]*)\s*")
_COMPARE = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}
_LATENCIES = ("p50", "p90", "p99", "p999", "max", "mean")
_LIMITS = {unit.suffix: unit for unit in UNITS}
_MEMORY = {"rss": "rss_bytes", "pss": "pss_bytes"}
_GRAMMAR = (
    "a threshold compares `unary` or `batch` with certificates per second, a limit or a baseline (unary>=0.8combined-bound, "
    "batch>=0.5signing-limit, unary>=0.9echo-rate, batch>=5cfssl); a latency with ms or the mean (p99<=15ms, p99<=3mean); "
    "errors<=0; memory (pss<=400MB, rss<=800MB); or CPU time per certificate (server<=150us)"
)


@dataclass(frozen=True, slots=True)
class Threshold:
    """A comparison that must hold."""

    text: str
    name: str
    comparison: str
    number: float
    unit: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a threshold. Raises `keyreeve.errors.FieldInvalid`."""
        found = _FORM.fullmatch(text)
        if found is None:
            raise FieldInvalid(f"--require {text!r}: {_GRAMMAR}")
        threshold = cls(text, found[1], found[2], float(found[3]), found[4])
        if threshold.unit not in threshold.units():
            raise FieldInvalid(f"--require {text!r}: {_GRAMMAR}")
        return threshold

    def units(self) -> tuple[str, ...]:
        """Units allowed with the name; none for an unknown name."""
        if self.name in {"unary", "batch"}:
            return ("", *_LIMITS, *BASELINES)
        if self.name in _LATENCIES:
            return ("ms", "mean")
        if self.name in _MEMORY:
            return ("MB",)
        return {"errors": ("",), "server": ("us",), "database": ("us",), "client": ("us",)}.get(self.name, ())

    def check(self, report: Mapping[str, Any]) -> dict[str, Any]:
        """Compare with a finished report: the target, the measured value, and whether the target is met.

        Raises `keyreeve.errors.FieldInvalid` when the report lacks the value.
        """
        measured, target = self._measured(report), self.number * self._unit(report)
        met = bool(_COMPARE[self.comparison](measured, target))
        return {"require": self.text, "target": round(target, 3), "measured": round(measured, 3), "met": met}

    def _measured(self, report: Mapping[str, Any]) -> float:
        if self.name in {"unary", "batch"}:
            if report["kind"] != self.name:
                raise FieldInvalid(f"--require {self.text!r}: the report is of {report['kind']} calls")
            return float(report["certificates_per_second"]["median"])
        if self.name in _LATENCIES:
            return float(report["latency_ms"][self.name])
        if self.name == "errors":
            return float(sum(error["count"] for error in report["errors"]))
        value = (
            report[_MEMORY[self.name]]["server"]
            if self.name in _MEMORY
            else report["cpu_us_per_certificate"][self.name]
        )
        if value is None:
            raise FieldInvalid(f"--require {self.text!r}: not measured, its processes are not on this machine")
        return float(value)

    def _unit(self, report: Mapping[str, Any]) -> float:
        if self.unit in {"", "ms", "us"}:
            return 1.0
        if self.unit in _LIMITS:
            return float(report[_LIMITS[self.unit].rate_key])
        if self.unit in {"mean", "MB"}:
            return float(report["latency_ms"]["mean"]) if self.unit == "mean" else 1e6
        baseline = report["baselines"].get(self.unit)
        if baseline is None:
            raise FieldInvalid(f"--require {self.text!r}: requires --compare {self.unit}")
        return float(baseline["certificates_per_second"]["median"])
