"""Thresholds such as `unary>=0.8B`: what has to hold for a bench to end with exit code 0."""

import operator
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from keyreeve.errors import FieldInvalid

_FORM = re.compile(r"\s*([a-z_0-9]+)\s*(>=|<=|>|<)\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z%-]*)\s*")
_COMPARE = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}
_LATENCIES = ("p50", "p90", "p99", "p999", "max", "mean")
_MEMORY = {"rss": "rss_bytes", "pss": "pss_bytes"}
_GRAMMAR = (
    "a threshold is `unary` or `batch` against a number of certificates per second, of L, E, B or a peer (unary>=0.8B, "
    "batch>=5cfssl); a latency in ms or of the mean (p99<=15ms, p99<=3mean); errors<=0; pss<=400MB (or rss); or the CPU of one "
    "certificate in us (server<=150us)"
)


@dataclass(frozen=True, slots=True)
class Threshold:
    """One comparison."""

    text: str
    name: str
    comparison: str
    number: float
    unit: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read one. Raises `keyreeve.errors.FieldInvalid`."""
        found = _FORM.fullmatch(text)
        if found is None:
            raise FieldInvalid(f"--require {text!r}: {_GRAMMAR}")
        threshold = cls(text, found[1], found[2], float(found[3]), found[4])
        if threshold.unit not in threshold.units():
            raise FieldInvalid(f"--require {text!r}: {_GRAMMAR}")
        return threshold

    def units(self) -> tuple[str, ...]:
        """The units that go with the name; none for a name that is not known."""
        if self.name in {"unary", "batch"}:
            return ("", "L", "E", "B", "cfssl", "step-ca")
        if self.name in _LATENCIES:
            return ("ms", "mean")
        if self.name in _MEMORY:
            return ("MB",)
        return {"errors": ("",), "server": ("us",), "database": ("us",), "client": ("us",)}.get(self.name, ())

    def check(self, report: Mapping[str, Any]) -> dict[str, Any]:
        """Say how a finished report compares: what was wanted, what was found, and whether it holds.

        Raises `keyreeve.errors.FieldInvalid` when the report has nothing of the kind.
        """
        found, goal = self._found(report), self.number * self._unit(report)
        holds = bool(_COMPARE[self.comparison](found, goal))
        return {"require": self.text, "wanted": round(goal, 3), "found": round(found, 3), "holds": holds}

    def _found(self, report: Mapping[str, Any]) -> float:
        if self.name in {"unary", "batch"}:
            if report["kind"] != self.name:
                raise FieldInvalid(f"--require {self.text!r}: these were {report['kind']} calls")
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
            raise FieldInvalid(f"--require {self.text!r}: that was not measured, its processes are not on this machine")
        return float(value)

    def _unit(self, report: Mapping[str, Any]) -> float:
        if self.unit in {"", "ms", "us"}:
            return 1.0
        units = {"L": "limit_per_second", "E": "echo_per_second", "B": "bound_per_second"}
        if self.unit in units:
            return float(report[units[self.unit]])
        if self.unit in {"mean", "MB"}:
            return float(report["latency_ms"]["mean"]) if self.unit == "mean" else 1e6
        peer = report["peers"].get(self.unit)
        if peer is None:
            raise FieldInvalid(f"--require {self.text!r}: --compare {self.unit} has to be given, too")
        return float(peer["certificates_per_second"]["median"])
