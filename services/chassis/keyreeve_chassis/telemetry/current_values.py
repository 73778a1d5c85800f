"""Gauges whose series are replaced together: what is gone is not shown any more.

prometheus_client cannot remove a series that several processes share. These are kept by the process that serves the page,
which is the one that reads what they show.
"""

from collections.abc import Iterable, Mapping, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

CURRENT = CollectorRegistry()
"""All of them, for the page."""


class CurrentValues(Collector):
    """One gauge. Not frozen: it holds the newest values."""

    def __init__(
        self, name: str, documentation: str, labels: Sequence[str] = (), registry: CollectorRegistry = CURRENT
    ) -> None:
        """Register it; it shows nothing until `replace`."""
        self._name, self._documentation, self._labels = name, documentation, tuple(labels)
        self._values: Mapping[tuple[str, ...], float] = {}
        registry.register(self)

    def replace(self, values: Mapping[tuple[str, ...], float]) -> None:
        """Show these series, by the values of their labels, and no others."""
        self._values = dict(values)

    def set(self, value: float) -> None:
        """Show one series without labels."""
        self.replace({(): value})

    def collect(self) -> Iterable[Metric]:
        """What the page shows."""
        family = GaugeMetricFamily(self._name, self._documentation, labels=self._labels)
        for labels, value in self._values.items():
            family.add_metric(labels, value)
        return [family]
