"""The alerts and dashboards of the chart: what they query exists, and each alert fires for what it is for."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from keyreeve.cli.program import app
from support.metric_queries import alerts, dashboards, declared, metrics_in, queries, unknown_in
from support.programs import PROMTOOL, find_program

ROOT = Path(__file__).parents[2]
ALERTS_TEST = Path(__file__).parent / "alerts_test.yaml"


@pytest.fixture(scope="module")
def promtool() -> str:
    return find_program(PROMTOOL)


def test_each_alert_fires_when_it_should_and_not_before(promtool: str) -> None:
    done = subprocess.run([promtool, "test", "rules", ALERTS_TEST], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_is_tested() -> None:
    tests = [one for group in yaml.safe_load(ALERTS_TEST.read_text())["tests"] for one in group["alert_rule_test"]]
    firing = {one["alertname"] for one in tests if one["exp_alerts"]}
    assert {alert["alert"] for alert in alerts()} == firing


def test_prometheus_reads_every_query(promtool: str, tmp_path: Path) -> None:
    rules = [{"record": f"query:{number}", "expr": query} for number, (_, query) in enumerate(queries())]
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": rules}]}))
    done = subprocess.run([promtool, "check", "rules", file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_query_names_metrics_and_labels_that_services_declare() -> None:
    known = declared()
    assert [where for where, query in queries() if not metrics_in(query)] == []
    assert {where: unknown for where, query in queries() if (unknown := unknown_in(query, known))} == {}


def test_a_query_of_an_unknown_metric_or_label_is_noticed() -> None:
    known = {"keyreeve_known_total": frozenset({"reason"})}
    assert unknown_in('sum by (reason) (keyreeve_known_total{reason!="",instance="a"})', known) == []
    assert unknown_in("keyreeve_unknown_total", known) == ["keyreeve_unknown_total"]
    assert unknown_in('keyreeve_known_total{why="x"}', known) == ["keyreeve_known_total{why}"]
    assert unknown_in("sum by (why) (keyreeve_known_total)", known) == ["why"]


def test_texts_of_alerts_use_labels_that_their_queries_keep() -> None:
    for alert in alerts():
        texts = " ".join(alert["annotations"].values())
        for label in re.findall(r"\$labels\.(\w+)", texts):
            assert label in alert["expr"] or label in {"instance", "process"}, f"{alert['alert']}: {label}"


def test_texts_of_alerts_name_commands_and_pages_that_exist() -> None:
    for alert in alerts():
        for text in alert["annotations"].values():
            for page in re.findall(r"docs/[\w.-]+", text):
                assert (ROOT / page.rstrip(".")).exists(), page
            for words in re.findall(r"`keyreeve ([a-z ]+)", text):
                command = get_command(app)
                for word in words.split():
                    command = getattr(command, "commands", {word: command})[word]


def test_every_metric_and_alert_is_on_the_page_of_metrics() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text()
    shown = {name for name in declared() if not name.endswith(("_bucket", "_sum", "_count"))}
    documented = set(re.findall(r"^\| `([a-z_]+)`", page, re.MULTILINE))
    assert shown == documented
    assert {alert["alert"] for alert in alerts()} == set(re.findall(r"`(Keyreeve\w+)`", page))


def test_dashboards_have_names_of_their_own_and_fit_the_screen() -> None:
    found = dashboards()
    assert set(found) == {"overview.json", "ca.json", "membership.json", "credentials.json", "gateway.json"}
    assert len({one["uid"] for one in found.values()}) == len(found)
    for name, dashboard in found.items():
        assert dashboard["uid"] == f"keyreeve-{name.removesuffix('.json')}"
        places = [panel["gridPos"] for panel in dashboard["panels"]]
        assert all(place["x"] + place["w"] <= 24 for place in places)
