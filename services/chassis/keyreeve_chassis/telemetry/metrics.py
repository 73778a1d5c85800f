"""Prometheus metrics of the calls served, under the names that public gRPC dashboards know, and how to expose them.

Several worker processes share one page: with `PROMETHEUS_MULTIPROC_DIR` in the environment before this module is
imported, or when `count_here` is called, prometheus_client keeps each process's values in files there, and any process can
render the sum.
"""

import os
from collections.abc import Iterable
from itertools import repeat
from typing import Any

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    PROCESS_COLLECTOR,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Histogram,
    generate_latest,
    values,
)
from prometheus_client.core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from keyreeve_chassis.telemetry.current_values import CURRENT
from keyreeve_chassis.telemetry.process_metrics import ServiceProcesses

MULTIPROCESS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
SECONDS_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)
NO_REASON = ""
"""The `reason` of a call that succeeded or was cancelled by its caller."""


class ServerMetrics:
    """The three `grpc_server_*` families; one per process, since a registry holds a name once."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        """Create the families in `registry`."""
        labels = ("grpc_type", "grpc_service", "grpc_method")
        self.started = Counter(
            "grpc_server_started_total", "Calls that arrived at the server.", labels, registry=registry
        )
        self.handled = Counter(
            "grpc_server_handled_total",
            "Calls that ended, whatever the result; `reason` is the ErrorInfo's.",
            (*labels, "grpc_code", "reason"),
            registry=registry,
        )
        self.seconds = Histogram(
            "grpc_server_handling_seconds",
            "Time from arrival to the end of the answer.",
            labels,
            buckets=SECONDS_BUCKETS,
            registry=registry,
        )


class _Unopened:
    """A value that was made before the process was forked that counts; it has no file yet, and becomes one that has."""

    _multiprocess = True

    def __init__(self, *arguments: object, **options: object) -> None:
        self.made = arguments, options
        _unopened.append(self)


_unopened: list[_Unopened] = []


def wait_for_fork() -> None:
    """Open no metrics files in this process, which will fork: its children call `count_here`.

    Call it before any metric is created.
    """
    values.ValueClass = _Unopened


def count_here() -> None:
    """Start counting in a forked process: in files when there is a shared directory, else in memory.

    It does not fork again, so each count is spared the library's system call to detect that.
    """
    own_id = repeat(os.getpid()).__next__
    shared = bool(os.environ.get(MULTIPROCESS_VARIABLE))
    kind: type[Any] = values.MultiProcessValue(own_id) if shared else values.MutexValue  # type: ignore[no-untyped-call]
    values.ValueClass = kind
    for value in _unopened:
        arguments, options = value.made
        value.__class__ = kind
        kind.__init__(value, *arguments, **options)
    _unopened.clear()


def registry() -> CollectorRegistry:
    """The registry to expose: of this process, or of all that share `PROMETHEUS_MULTIPROC_DIR`."""
    managed = bool(os.environ.get(MULTIPROCESS_VARIABLE))
    combined = CollectorRegistry()
    if managed:
        MultiProcessCollector(combined)  # type: ignore[no-untyped-call]
    else:
        combined.register(_Others())
    combined.register(CURRENT)
    combined.register(ServiceProcesses(managed=managed))
    return combined


class _Others(Collector):
    """What the library counts in this process, without its own `process_*`."""

    def collect(self) -> Iterable[Metric]:
        own = {one.name for one in PROCESS_COLLECTOR.collect()}
        return (one for one in REGISTRY.collect() if one.name not in own)


def render() -> tuple[str, bytes]:
    """Return content type and text of the metrics page."""
    return CONTENT_TYPE_LATEST, generate_latest(registry())
