"""The queries of the alerts and dashboards, and the metrics that the services declare in their code."""

import importlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import prometheus_client
import yaml
from prometheus_client.metrics import MetricWrapperBase

from keyreeve_chassis.telemetry.current_values import CURRENT, CurrentValues
from keyreeve_chassis.telemetry.process import _server_metrics

FILES = Path(__file__).parents[2] / "helm" / "keyreeve" / "files"
_MODULES = (
    "keyreeve_ca.metrics",
    "keyreeve_ca.enrollment.listener",
    "keyreeve_ca.enrollment.servicer",
    "keyreeve_credentials.metrics",
    "keyreeve_membership.metrics",
    "keyreeve_chassis.audit.feeding",
    "keyreeve_chassis.operations.values",
    "keyreeve_chassis.trust_tables.watching",
)
_NAME = re.compile(r"\b((?:keyreeve|grpc_server|process)_[a-z_]+)\b(?:\{([^}]*)\})?")
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)")
_OF_EVERY_SERIES = {"instance", "le", "job"}
_SUFFIXES = ("_bucket", "_sum", "_count")
PROCESSES = (
    "process_cpu_seconds_total",
    "process_resident_memory_bytes",
    "process_virtual_memory_bytes",
    "process_start_time_seconds",
    "process_open_fds",
    "process_max_fds",
)


def alerts() -> list[dict[str, Any]]:
    """The alerts of every group."""
    groups = yaml.safe_load((FILES / "alerts.yaml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def dashboards() -> dict[str, dict[str, Any]]:
    """The dashboards by file name."""
    return {file.name: json.loads(file.read_text()) for file in sorted((FILES / "dashboards").glob("*.json"))}


def queries() -> Iterator[tuple[str, str]]:
    """(where, query) of all alerts and panels, with Grafana's variables replaced."""
    for alert in alerts():
        yield alert["alert"], alert["expr"]
    for name, dashboard in dashboards().items():
        for panel in dashboard["panels"]:
            for target in panel["targets"]:
                query = target["expr"].replace("$instance", ".*").replace("$__rate_interval", "5m")
                yield f"{name}: {panel['title']}", query


def metrics_in(query: str) -> dict[str, set[str]]:
    """The metrics of a query, each with the labels of its selectors."""
    found: dict[str, set[str]] = {}
    for name, selector in _NAME.findall(re.sub(r'"(?:[^"\\]|\\.)*"', '""', query)):
        labels = {part.partition("=")[0].strip(" !~") for part in selector.split(",") if part.strip()}
        found.setdefault(name, set()).update(labels)
    return found


def grouped_by(query: str) -> set[str]:
    """The labels that a query groups by."""
    return {label.strip() for group in _GROUPING.findall(query) for label in group.split(",")}


def declared() -> Mapping[str, frozenset[str]]:
    """The labels of each metric that the services' code declares, by the name that the page shows."""
    for module in _MODULES:
        importlib.import_module(module)
    importlib.import_module("keyreeve_chassis.telemetry.certificates")._gauges()
    _server_metrics()
    labels: dict[str, frozenset[str]] = {name: frozenset({"process"}) for name in PROCESSES}
    for collector in [*prometheus_client.REGISTRY._collector_to_names, *CURRENT._collector_to_names]:
        if isinstance(collector, CurrentValues):
            labels[collector._name] = frozenset(collector._labels)
        elif isinstance(collector, MetricWrapperBase):
            total = "_total" if collector._type == "counter" else ""
            names = [collector._name + suffix for suffix in _SUFFIXES] if collector._type == "histogram" else []
            for name in (collector._name + total, *names):
                labels[name] = frozenset(collector._labelnames)
    return labels


def unknown_in(query: str, known: Mapping[str, frozenset[str]]) -> list[str]:
    """What a query names and no service shows: a metric, or a label of it."""
    used = metrics_in(query)
    missing = [name for name in used if name not in known]
    for name, labels in used.items():
        missing += [f"{name}{{{label}}}" for label in sorted(labels - _OF_EVERY_SERIES - known.get(name, frozenset()))]
    everything = frozenset().union(*(known.get(name, frozenset()) for name in used))
    return missing + sorted(grouped_by(query) - _OF_EVERY_SERIES - everything)
