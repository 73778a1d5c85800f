"""The metrics pages of a running control plane have what the alerts and dashboards query."""

import urllib.request

from prometheus_client.parser import text_string_to_metric_families

from support.control_plane import ControlPlane
from support.metric_queries import PROCESSES, declared, metrics_in, queries

UNSEEN = frozenset(
    {
        "keyreeve_ca_groups_refused_total",
        "keyreeve_ca_lint_findings_total",
    }
)
"""Counters with labels that begin with their first event, which a sound control plane has not."""


def test_what_is_queried_is_on_the_pages_of_running_services(all_services: ControlPlane) -> None:
    all_services.run("cert", "issue", "metrics.dev.localhost", "--out", str(all_services.directory / "metrics"))
    services = all_services.run("status", "--output", "json").document["services"]
    shown: dict[str, set[str]] = {}
    processes: dict[str, set[str]] = {}
    for service in services:
        with urllib.request.urlopen(f"http://{service['metrics']}/metrics", timeout=20) as page:
            for family in text_string_to_metric_families(page.read().decode()):
                total = "_total" if family.type == "counter" else ""
                shown.setdefault(family.name + total, set())
                for sample in family.samples:
                    shown.setdefault(sample.name, set()).update(sample.labels)
                    if sample.name == "process_open_fds":
                        processes.setdefault(service["service"], set()).add(sample.labels["process"])
    known = declared()
    queried = {name for _, query in queries() for name in metrics_in(query)}
    assert queried - shown.keys() == UNSEEN
    wrong = {name: labels for name, labels in shown.items() if name in known and labels - known[name] - {"le"}}
    assert wrong == {}
    assert {"manager", "coordinator", "fork_server", "worker-0"} <= processes["ca"]
    assert processes["membership"] == processes["credentials"] == {"solo"}
    assert set(PROCESSES) <= shown.keys()
