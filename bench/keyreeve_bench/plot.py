"""Plot of throughput and latency against offered load."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pygal  # type: ignore[import-untyped]
from pygal.style import LightStyle  # type: ignore[import-untyped]


@dataclass(frozen=True, slots=True)
class Point:
    """Result of an open loop at one rate; rates in certificates per second, times in milliseconds."""

    offered: float
    done: float
    p50: float
    p99: float
    failed: float
    """Share of certificates that were refused or failed, from 0 to 1."""


def write_plot(file: Path, points: Sequence[Point], title: str) -> None:
    """Write an SVG: throughput on the left scale, latency on the right one. Raises `OSError`."""
    chart = pygal.XY(
        title=title,
        x_title="offered certificates per second",
        y_title="certificates per second",
        style=LightStyle(background="white", plot_background="white"),
        legend_at_bottom=True,
        legend_at_bottom_columns=4,
        width=900,
        height=520,
        include_x_axis=True,
        js=[],  # no external scripts
        pretty_print=True,
        range=(0, max(point.offered for point in points) * 1.05),
        secondary_range=(0, max(point.p99 for point in points) * 1.1),
        x_value_formatter=lambda value: f"{value:,.0f}",
        value_formatter=lambda value: f"{value:,.1f}" if value < 100 else f"{value:,.0f}",
    )
    chart.add(
        "offered", [(0, 0), (points[-1].offered, points[-1].offered)], show_dots=False, stroke_style={"dasharray": "4"}
    )
    chart.add("answered", [(point.offered, point.done) for point in points])
    chart.add("p99, ms (right)", [(point.offered, point.p99) for point in points], secondary=True)
    chart.add("p50, ms (right)", [(point.offered, point.p50) for point in points], secondary=True)
    file.write_bytes(chart.render())
