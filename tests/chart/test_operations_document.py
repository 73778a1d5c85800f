"""docs/operations.md says of every alert what to do."""

import re

import yaml

from chart.rendering import CHART

OPERATIONS = CHART.parents[1] / "docs" / "operations.md"


def test_the_document_has_every_alert_once_and_no_other() -> None:
    groups = yaml.safe_load((CHART / "files" / "alerts.yaml").read_text())["groups"]
    alerts = [rule["alert"] for group in groups for rule in group["rules"]]
    named = re.findall(r"^\| `(Keyreeve\w+)` \| \S.* \| \S.* \|$", OPERATIONS.read_text(), re.MULTILINE)
    assert named == alerts
