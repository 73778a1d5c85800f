"""The Helm chart, rendered by Helm's own engine: what it makes for each profile, and what it refuses."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import helm_python as helm
import kubernetes_validate
import pytest
import yaml
from pydantic import SecretStr

from keyreeve_ca.settings import CaSettings
from keyreeve_chassis.settings.sections import DatabaseSettings
from keyreeve_credentials.settings import CredentialsSettings
from keyreeve_membership.settings import MembershipSettings

CHART = Path(__file__).parents[2] / "helm" / "keyreeve"
PRODUCTION = {
    "profile": "production",
    "database": {"existingSecret": "urls"},
    "keys": {"existingSecret": "keys"},
    "ca": {"replicas": 2},
    "membership": {"replicas": 2},
}
EVERYTHING = {
    **PRODUCTION,
    "nameOverride": "other",
    "commonLabels": {"team": "trust"},
    "image": {"registry": "registry.example.test", "digest": "sha256:" + "0" * 64, "pullPolicy": "Always"},
    "imagePullSecrets": ["pull"],
    "persistence": {"size": "5Gi", "storageClass": "fast"},
    "workloads": ["shop/web"],
    "networkPolicy": {"allowNamespaces": [{"matchLabels": {"team": "shop"}}], "apiServerPort": 443},
    "metrics": {"podMonitor": True},
    "extraObjects": [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "{{ .Release.Name }}-extra"}}],
}
VARIANTS: Mapping[str, dict[str, Any]] = {
    "dev": {},
    "dev in memory": {"persistence": {"ephemeral": True}, "networkPolicy": {"enabled": False}},
    "the CA alone": {"membership": {"enabled": False}, "credentials": {"enabled": False}},
    "production": PRODUCTION,
    "everything": EVERYTHING,
}
SETTINGS = {"ca": CaSettings, "membership": MembershipSettings, "credentials": CredentialsSettings}


@pytest.fixture(scope="module")
def chart() -> Iterator[helm.Chart]:
    with helm.Chart.load(str(CHART)) as loaded:
        yield loaded


def manifests(chart: helm.Chart, values: dict[str, Any]) -> list[dict[str, Any]]:
    rendered = chart.render(values, name="kr", namespace="control")
    texts = [text for path, text in rendered.items() if not path.endswith((".txt", ".tpl"))]
    return [one for text in texts for one in yaml.safe_load_all(text) if one]


def pods(found: list[dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    specs = [(one["metadata"]["name"], one["spec"]) for one in found if one["kind"] == "Pod"]
    controlled = [one for one in found if one["kind"] in {"Deployment", "StatefulSet", "Job"}]
    return specs + [(one["metadata"]["name"], one["spec"]["template"]["spec"]) for one in controlled]


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("version", ["1.30", "1.34", "1.37"])
def test_every_manifest_is_valid_in_three_versions_of_kubernetes(chart: helm.Chart, name: str, version: str) -> None:
    found = manifests(chart, VARIANTS[name])
    assert found
    for manifest in found:
        if not manifest["apiVersion"].startswith("monitoring.coreos.com/"):
            kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.parametrize("name", VARIANTS)
def test_every_pod_is_restricted(chart: helm.Chart, name: str) -> None:
    for pod, spec in pods(manifests(chart, VARIANTS[name])):
        assert spec["securityContext"]["runAsNonRoot"] is True, pod
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, pod
        assert spec["automountServiceAccountToken"] is False, pod
        assert spec["enableServiceLinks"] is False, pod
        assert not any("hostPath" in volume for volume in spec["volumes"]), pod
        for container in spec["containers"]:
            security = container["securityContext"]
            assert security["allowPrivilegeEscalation"] is False, pod
            assert security["readOnlyRootFilesystem"] is True, pod
            assert security["capabilities"] == {"drop": ["ALL"]}, pod
            assert container["resources"]["limits"]["memory"], pod


@pytest.mark.parametrize("name", VARIANTS)
def test_every_image_is_the_pinned_one(chart: helm.Chart, name: str) -> None:
    wanted = "registry.example.test/keyreeve@sha256:" + "0" * 64 if name == "everything" else "keyreeve:0.1.0"
    images = {
        container["image"] for _, spec in pods(manifests(chart, VARIANTS[name])) for container in spec["containers"]
    }
    assert images == {wanted}


@pytest.mark.parametrize("name", VARIANTS)
def test_no_secret_is_made_and_no_key_is_in_a_config_map(chart: helm.Chart, name: str) -> None:
    found = manifests(chart, VARIANTS[name])
    assert not [one for one in found if one["kind"] == "Secret"]
    assert "PRIVATE KEY" not in json.dumps(found)


@pytest.mark.parametrize("name", VARIANTS)
def test_each_service_accepts_the_settings_that_it_is_given(
    chart: helm.Chart, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {one["metadata"]["name"]: one for one in manifests(chart, VARIANTS[name]) if one["kind"] == "ConfigMap"}
    for config_map, manifest in found.items():
        service = config_map.rpartition("-")[2]
        if service not in SETTINGS:
            continue
        document = yaml.safe_load(manifest["data"]["settings.yaml"])
        document.setdefault("database", DatabaseSettings(url=SecretStr("postgresql:///keyreeve")))
        settings = SETTINGS[service](**document)
        assert settings.trust_domain == "keyreeve.internal"
        if service != "ca":
            assert settings.service_account is not None


def test_the_accounts_that_the_ca_lets_in_are_those_of_the_pods(chart: helm.Chart) -> None:
    found = manifests(chart, {"workloads": ["shop/web"]})
    [ca] = [one for one in found if one["kind"] == "ConfigMap" and one["metadata"]["name"].endswith("-ca")]
    accounts = yaml.safe_load(ca["data"]["settings.yaml"])["enroll"]["kubernetes"]["accounts"]
    assert accounts.pop("shop/web") == "workload"
    made = {f"control/{one['metadata']['name']}" for one in found if one["kind"] == "ServiceAccount"}
    assert {name for name in made if not name.endswith("-ca")} == set(accounts)
    assert accounts == {name: "workload" if name.endswith("-test") else name.rpartition("-")[2] for name in accounts}


def test_the_network_policies_select_every_service_and_deny_the_rest(chart: helm.Chart) -> None:
    found = manifests(chart, {})
    policies = [one for one in found if one["kind"] == "NetworkPolicy"]
    labels = [one["spec"]["podSelector"]["matchLabels"] for one in policies]
    for one in found:
        if one["kind"] in {"StatefulSet", "Deployment"}:
            assert one["spec"]["selector"]["matchLabels"] in labels, one["metadata"]["name"]
    assert all(one["spec"]["policyTypes"] == ["Ingress", "Egress"] for one in policies)


def test_selectors_do_not_contain_what_an_upgrade_changes(chart: helm.Chart) -> None:
    for one in manifests(chart, {}):
        if one["kind"] in {"StatefulSet", "Deployment"}:
            assert set(one["spec"]["selector"]["matchLabels"]) == {
                "app.kubernetes.io/name",
                "app.kubernetes.io/instance",
                "app.kubernetes.io/component",
            }


def test_the_grace_period_is_longer_than_the_pause_and_the_drain(chart: helm.Chart) -> None:
    for one in manifests(chart, {}):
        if one["kind"] == "StatefulSet":
            spec = one["spec"]["template"]["spec"]
            pause = spec["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
            drain = MembershipSettings.model_fields["drain_seconds"].default
            assert spec["terminationGracePeriodSeconds"] > pause + drain


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"profile": "production"}, "database.existingSecret"),
        ({"profile": "production", "database": {"existingSecret": "urls"}}, "keys.existingSecret"),
        ({**PRODUCTION, "persistence": {"ephemeral": True}}, "ephemeral"),
        ({"ca": {"replicas": 2}}, "SQLite has one writer"),
        ({"profile": "staging"}, "profile"),
        ({"unknown": 1}, "unknown"),
        ({"ca": {"replica": 2}}, "replica"),
        ({"trustDomain": "Not A Domain"}, "trustDomain"),
        ({"image": {"digest": "sha256:short"}}, "digest"),
        ({"workloads": ["web"]}, "workloads"),
    ],
)
def test_values_that_make_no_sense_are_refused(chart: helm.Chart, values: dict[str, Any], told: str) -> None:
    with pytest.raises(helm.HelmError, match=told):
        chart.render(values, name="kr", namespace="control")


def test_every_value_is_documented_and_in_the_schema() -> None:
    text = (CHART / "values.yaml").read_text()
    schema = json.loads((CHART / "values.schema.json").read_text())

    def walk(values: Mapping[str, Any], node: Mapping[str, Any], path: str) -> None:
        for key, value in values.items():
            assert key in node["properties"], f"{path}{key}"
            assert re.search(rf"# -- .*\n(\s*# .*\n)*\s*{key}:", text) or isinstance(value, dict), f"{path}{key}"
            if isinstance(value, dict) and "properties" in node["properties"][key] and key != "resources":
                walk(value, node["properties"][key], f"{path}{key}.")

    walk(yaml.safe_load(text), schema, "")
    assert schema["additionalProperties"] is False


def test_helm_finds_nothing_to_complain_about() -> None:
    assert helm.lint(str(CHART))["errors"] == []
