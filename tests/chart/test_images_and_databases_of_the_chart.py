"""The Helm chart: its images, and how its pods reach a database."""

import json
from collections.abc import Iterator
from typing import Any

import helm_python as helm
import pytest
import yaml

from chart.rendering import CHART, PRODUCTION, VARIANTS, containers, manifests, pods, settings_of


@pytest.fixture(scope="module")
def chart() -> Iterator[helm.Chart]:
    with helm.Chart.load(str(CHART)) as loaded:
        yield loaded


@pytest.mark.parametrize("name", VARIANTS)
def test_every_container_has_the_image_of_the_values_by_its_digest(chart: helm.Chart, name: str) -> None:
    wanted = {
        "everything": "registry.example.test/mirror/keyreeve@sha256:" + "0" * 64,
        "dev elsewhere": "mirror.example.test/keyreeve:2",
    }.get(name, "keyreeve:0.1.0")
    assert {one["image"] for one in images(chart, name)} == {wanted}


def test_the_chart_lists_all_its_images_for_mirrors(chart: helm.Chart) -> None:
    listed = yaml.safe_load(yaml.safe_load((CHART / "Chart.yaml").read_text())["annotations"]["artifacthub.io/images"])
    found = {one["image"] for name in ("dev", "production") for one in images(chart, name)}
    assert found == {one["image"] for one in listed}
    assert not any(image.endswith(":latest") or ":" not in image for image in found)


def images(chart: helm.Chart, name: str) -> list[dict[str, Any]]:
    return [container for _, spec in pods(manifests(chart, VARIANTS[name])) for container in containers(spec)]


def test_with_a_pooler_each_service_and_migration_has_both_urls_from_the_secret(chart: helm.Chart) -> None:
    found = manifests(chart, VARIANTS["everything"])
    assert "direct_url" not in json.dumps([one for one in found if one["kind"] == "ConfigMap"])
    mounted = 0
    for _, spec in pods(found):
        for volume in spec["volumes"]:
            items = volume.get("secret", {}).get("items", ())
            paths = {item["path"]: item["key"] for item in items}
            if "database.url" in paths:
                mounted += 1
                assert paths["database.direct_url"] == f"{paths['database.url']}-direct"
    assert mounted == 9, "three services, and three in each of two Jobs"
    plain = json.dumps(manifests(chart, PRODUCTION))
    assert "direct_url" not in plain


def test_in_production_urls_must_verify_tls_and_the_audit_log_leaves_the_database(chart: helm.Chart) -> None:
    for name, given in settings_of(chart, PRODUCTION).items():
        if name != "gateway":
            assert given["database"]["verify_tls"] is True
            assert given["audit"] == {"stdout": True}
    required = {"audit": {"sink_required": True}}
    [ca] = [
        given
        for name, given in settings_of(chart, {**PRODUCTION, "ca": {"settings": required}}).items()
        if name == "ca"
    ]
    assert ca["audit"] == {"stdout": True, "sink_required": True}
    for job in (one for one in manifests(chart, PRODUCTION) if one["kind"] == "Job" and "migrate" in str(one)):
        for container in containers(job["spec"]["template"]["spec"]):
            told = json.dumps([container["args"], container["env"]])
            assert "VERIFY_TLS" in told or "--verify-tls" in told
