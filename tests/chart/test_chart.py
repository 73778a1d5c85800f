"""The Helm chart: what it makes of every value, and what it refuses."""

import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import helm_python as helm
import kubernetes_validate
import pytest
import yaml
from pydantic import SecretStr

from chart.rendering import (
    CHART,
    CUSTOM_RESOURCES,
    EVERYTHING,
    PRODUCTION,
    VARIANTS,
    containers,
    leaves,
    manifests,
    pods,
    recovery_command,
    settings_of,
)
from keyreeve_ca.settings import CaSettings
from keyreeve_chassis.settings.sections import DatabaseSettings
from keyreeve_chassis.settings.serving import ServingSettings
from keyreeve_credentials.settings import CredentialsSettings
from keyreeve_gateway.service_settings import GatewaySettings
from keyreeve_membership.settings import MembershipSettings

SNAPSHOTS = Path(__file__).parent / "snapshots"
VALID: set[tuple[str, str]] = set()
"""Manifests that were found valid in a version: variants have most of them in common."""
SETTINGS = {
    "ca": CaSettings,
    "membership": MembershipSettings,
    "credentials": CredentialsSettings,
    "gateway": GatewaySettings,
}


@pytest.fixture(scope="module")
def chart() -> Iterator[helm.Chart]:
    with helm.Chart.load(str(CHART)) as loaded:
        yield loaded


def test_every_value_is_changed_in_some_variant() -> None:
    defaults = leaves(yaml.safe_load((CHART / "values.yaml").read_text()))

    def changed(path: tuple[str, ...]) -> bool:
        for variant in VARIANTS.values():
            value: Any = variant
            for part in path:
                value = value.get(part) if isinstance(value, dict) else None
            if value is not None and value != defaults[path]:
                return True
        return False

    assert [".".join(path) for path in defaults if not changed(path)] == []


SCHEMA_CONTENTS = cache(kubernetes_validate.utils.schema_contents)
"""The validator would read every schema anew for every manifest."""


@pytest.mark.parametrize(
    ("version", "name"),
    [("1.37", name) for name in VARIANTS]
    + [(version, name) for version in ("1.30", "1.34") for name in ("dev", "production", "everything")],
)
def test_every_manifest_is_valid_in_three_versions_of_kubernetes(
    chart: helm.Chart, name: str, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kubernetes_validate.utils, "schema_contents", SCHEMA_CONTENTS)
    found = manifests(chart, VARIANTS[name])
    assert found
    for manifest in found:
        text = json.dumps(manifest)
        if not manifest["apiVersion"].startswith(CUSTOM_RESOURCES) and (version, text) not in VALID:
            kubernetes_validate.validate(manifest, version, strict=True)
            VALID.add((version, text))


@pytest.mark.parametrize("name", ["dev", "production"])
def test_the_manifests_are_those_of_the_snapshot(chart: helm.Chart, name: str) -> None:
    text = yaml.safe_dump_all(manifests(chart, VARIANTS[name]), sort_keys=False, width=120)
    file = SNAPSHOTS / f"{name}.yaml"
    if os.environ.get("KEYREEVE_UPDATE_SNAPSHOTS"):
        file.write_text(text)
    assert text == file.read_text(), "see the difference after KEYREEVE_UPDATE_SNAPSHOTS=1"


@pytest.mark.parametrize("name", VARIANTS)
def test_every_pod_is_restricted(chart: helm.Chart, name: str) -> None:
    for pod, spec in pods(manifests(chart, VARIANTS[name])):
        assert spec["securityContext"]["runAsNonRoot"] is True, pod
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, pod
        assert spec["automountServiceAccountToken"] is False, pod
        assert spec["enableServiceLinks"] is False, pod
        assert not any("hostPath" in volume for volume in spec["volumes"]), pod
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys(), pod
        for container in containers(spec):
            security = container["securityContext"]
            assert security["allowPrivilegeEscalation"] is False, pod
            assert security["readOnlyRootFilesystem"] is True, pod
            assert security["capabilities"] == {"drop": ["ALL"]}, pod
            assert "privileged" not in security, pod
            resources = container["resources"]
            assert resources["limits"]["memory"] == resources["requests"]["memory"], pod
            assert resources["requests"]["cpu"], pod


def test_names_are_labels_of_dns_however_long_those_of_the_release_are(chart: helm.Chart) -> None:
    for values in ({}, VARIANTS["everything"], {"nameOverride": "n" * 80}, {"fullnameOverride": "f" * 80}):
        rendered = chart.render(values, name="r" * 53, namespace="s" * 63)
        texts = [text for path, text in rendered.items() if path.endswith(".yaml")]
        found = [one for text in texts for one in yaml.load_all(text, yaml.CSafeLoader) if one]
        assert found
        for one in found:
            metadata = one["metadata"]
            if not one["kind"].startswith("Cluster"):  # those names are paths: up to 253
                assert len(metadata["name"]) <= 63, metadata["name"]
            for value in metadata.get("labels", {}).values():
                assert re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?", value), value


def test_labels_and_priority_of_a_parent_chart_reach_everything(chart: helm.Chart) -> None:
    found = manifests(chart, VARIANTS["dev elsewhere"])
    assert {one["metadata"]["labels"]["team"] for one in found} == {"platform"}
    assert {spec["priorityClassName"] for _, spec in pods(found)} == {"important"}
    both = {
        "global": {"labels": {"team": "platform"}, "priorityClassName": "important"},
        "commonLabels": {"team": "own"},
    }
    found = manifests(chart, {**both, "pods": {"priorityClassName": "own"}})
    assert {one["metadata"]["labels"]["team"] for one in found} == {"own"}
    assert {spec["priorityClassName"] for _, spec in pods(found)} == {"own"}


def test_every_job_ends_by_itself_and_its_order_is_said(chart: helm.Chart) -> None:
    found = manifests(chart, VARIANTS["everything"])
    jobs = {one["metadata"]["name"]: one for one in found if one["kind"] == "Job"}
    weights = {name: int(one["metadata"]["annotations"]["helm.sh/hook-weight"]) for name, one in jobs.items()}
    assert weights == {"kr-other-expand": 0, "kr-other-check": 0, "kr-other-contract": 5}
    for one in jobs.values():
        assert one["spec"]["activeDeadlineSeconds"] > 0
        assert one["spec"]["ttlSecondsAfterFinished"] > 0
        assert "backoffLimit" in one["spec"]
    check = jobs["kr-other-check"]["spec"]
    assert check["activeDeadlineSeconds"] > (check["backoffLimit"] + 1) * EVERYTHING["check"]["seconds"]


def test_no_address_is_of_ipv4_where_pods_have_none(chart: helm.Chart) -> None:
    found = manifests(chart, {"ipv6": True})
    assert "0.0.0.0" not in json.dumps(found)
    assert settings_of(chart, {"ipv6": True})["ca"]["listen"]["host"] == "::"
    [address] = {one for _, spec in pods(found) for one in containers(spec)[0]["args"] if one.startswith("--address")}
    assert address == "--address=[$(POD_IP)]:5427"


def test_the_trust_bundle_is_published_where_the_cluster_serves_it(chart: helm.Chart) -> None:
    def signer(enabled: bool | None) -> str | None:
        section = settings_of(chart, {"clusterTrustBundle": {"enabled": enabled}})["ca"]["enroll"]["kubernetes"]
        found: str | None = section.get("trust_bundle_signer")
        return found

    assert signer(None) is None
    assert signer(True) == "keyreeve.internal/estate"
    # The engine has a fixed list of APIs, without it: a copy of the chart that asks for one that it has.
    with tempfile.TemporaryDirectory() as directory:
        copied = Path(directory) / "keyreeve"
        shutil.copytree(CHART, copied)
        helpers = copied / "templates" / "_helpers.tpl"
        text = helpers.read_text()
        asked = 'Has "certificates.k8s.io/v1/ClusterTrustBundle"'
        assert text.count(asked) == 1
        helpers.write_text(text.replace(asked, 'Has "apps/v1"'))
        with helm.Chart.load(str(copied)) as serving:
            for enabled, published in ((None, True), (False, False)):
                texts = serving.render({"clusterTrustBundle": {"enabled": enabled}}, name="kr", namespace="control")
                assert ("trust_bundle_signer" in "".join(texts.values())) == published


@pytest.mark.parametrize("name", VARIANTS)
def test_no_secret_holds_anything_and_no_key_is_in_a_config_map_or_variable(chart: helm.Chart, name: str) -> None:
    found = manifests(chart, VARIANTS[name])
    for one in found:
        if one["kind"] == "Secret":
            assert not {"data", "stringData"} & one.keys()
            assert one["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    assert "PRIVATE KEY" not in json.dumps(found)
    assert "secretKeyRef" not in json.dumps(found), "files only: variables are inherited and shown"


@pytest.mark.parametrize("name", VARIANTS)
def test_each_service_accepts_the_settings_that_it_is_given(chart: helm.Chart, name: str) -> None:
    found = {one["metadata"]["name"]: one for one in manifests(chart, VARIANTS[name]) if one["kind"] == "ConfigMap"}
    loaded = {}
    for config_map, manifest in found.items():
        service = config_map.rpartition("-")[2]
        if "settings.yaml" not in manifest.get("data", ()):
            continue
        document = yaml.safe_load(manifest["data"]["settings.yaml"])
        if service != "gateway":
            url = document.setdefault("database", {}).setdefault("url", "postgresql:///keyreeve")
            document["database"] = DatabaseSettings(**document["database"] | {"url": SecretStr(url)})
        loaded[service] = SETTINGS[service](**document)
        assert (loaded[service].service_account is None) == (service == "ca")
    assert loaded


def test_values_below_settings_reach_the_service_and_addresses_may_be_replaced(chart: helm.Chart) -> None:
    made = manifests(chart, VARIANTS["everything"])
    found = {one["metadata"]["name"]: one for one in made if one["kind"] == "ConfigMap"}
    ca = yaml.safe_load(found["kr-other-ca"]["data"]["settings.yaml"])
    assert ca["workers"] == 4
    assert ca["operators"] == {"two_persons": True}
    assert ca["enroll"]["address"] == "enroll.example.test:443"
    assert ca["enroll"]["ca_address"] == "kr-other-ca.control.svc:7443"
    assert ca["enroll"]["port"] == 7483
    assert yaml.safe_load(found["kr-other-credentials"]["data"]["settings.yaml"])["vault"] == {
        "backup_days": 7,
        "membership_address": "kr-other-membership.control.svc:7444",
        "secrets": {"namespace": "keys-of-the-vault", "root_key_file": "/etc/keyreeve/keys/vault-root"},
    }


def test_the_accounts_that_the_ca_lets_in_are_those_of_the_pods(chart: helm.Chart) -> None:
    found = manifests(chart, {"workloads": ["shop/web"]})
    [ca] = [one for one in found if one["kind"] == "ConfigMap" and one["metadata"]["name"].endswith("-ca")]
    accounts = yaml.safe_load(ca["data"]["settings.yaml"])["enroll"]["kubernetes"]["accounts"]
    assert accounts.pop("shop/web") == "workload"
    made = {f"control/{one['metadata']['name']}" for one in found if one["kind"] == "ServiceAccount"}
    assert {name for name in made if not name.endswith("-ca")} == set(accounts)
    members = {name: accounts.pop(f"control/kr-keyreeve-{name}") for name in ("member-1", "member-2")}
    assert members == dict.fromkeys(members, "member")
    assert accounts == {name: "workload" if name.endswith("-check") else name.rpartition("-")[2] for name in accounts}


@pytest.mark.parametrize("name", VARIANTS)
def test_two_servers_are_tested_where_there_are_the_services_and_accounts_for_them(
    chart: helm.Chart, name: str
) -> None:
    found = manifests(chart, VARIANTS[name])
    hooks = [one for one in found if one["metadata"].get("annotations", {}).get("helm.sh/hook") == "test"]
    specs = {one["metadata"]["name"].partition("-test")[2]: spec for one in hooks for _, spec in pods([one])}
    tested = name not in {"the CA alone", "production", "production, scaled"}
    assert set(specs) == ({"", "-array", "-server"} if tested else {""})
    accounts = {one["metadata"]["name"] for one in found if one["kind"] == "ServiceAccount"}
    servers = {name: spec["serviceAccountName"] for name, spec in specs.items() if name}
    assert len({one for one in accounts if "-member-" in one}) == len(servers)
    assert set(servers.values()) <= accounts
    for server, account in servers.items():
        told = containers(specs[server])[0]["args"]
        [own], [other] = (
            [one.partition("=")[2] for one in told if one.startswith(key)] for key in ("--name", "--other")
        )
        assert own.partition(".")[0] == account
        assert other.partition(".")[0] == next(one for one in servers.values() if one != account)


def test_nothing_of_the_test_is_left_once_it_has_succeeded_but_pods_with_their_logs(chart: helm.Chart) -> None:
    for one in manifests(chart, {}):
        annotations = one["metadata"].get("annotations", {})
        if annotations.get("helm.sh/hook") == "test":
            policy = annotations["helm.sh/hook-delete-policy"].split(",")
            assert "before-hook-creation" in policy, "it can be repeated"
            assert ("hook-succeeded" in policy) == (one["kind"] != "Pod")


@pytest.mark.parametrize("values", [{}, PRODUCTION])
def test_the_notes_show_the_command_with_the_settings_and_secrets_of_the_pod(
    chart: helm.Chart, values: dict[str, Any]
) -> None:
    specs = dict(pods(manifests(chart, values)))
    [container] = specs["kr-keyreeve-ca"]["containers"]
    own = [part for one in container["args"] if one.startswith("--") for part in one.split("=", 1)]
    expected = ["python3", "-P", "-m", "keyreeve_ca", "recover", *own, "--operator", "YOUR-NAME"]
    assert recovery_command(chart, values) == expected


def test_secrets_are_written_by_name_or_in_a_namespace_of_their_own(chart: helm.Chart) -> None:
    found = manifests(chart, PRODUCTION)
    for role in (one for one in found if one["kind"] in {"Role", "ClusterRole"}):
        for rule in role["rules"]:
            if "secrets" in rule["resources"] and role["metadata"].get("namespace") != "control-vault-keys":
                assert rule["resourceNames"] == ["kr-keyreeve-control-plane"]
            assert "*" not in json.dumps(rule)
    cluster_wide = [one["rules"] for one in found if one["kind"] == "ClusterRole"]
    assert [[rule["resources"] for rule in rules] for rules in cluster_wide] == [[["tokenreviews"]]]


@pytest.mark.parametrize(("name", "namespaces"), [("dev", {"control"}), ("dev elsewhere", {"trusted"})])
def test_everything_is_in_one_namespace(chart: helm.Chart, name: str, namespaces: set[str]) -> None:
    made = manifests(chart, VARIANTS[name])
    assert {one["metadata"].get("namespace") for one in made if not one["kind"].startswith("Cluster")} == namespaces
    text = json.dumps(made)
    assert "control" not in namespaces or "trusted" not in text
    assert "trusted" not in namespaces or not re.search(r"[.]control[.]svc|control/|: .control.[,}]", text)


def test_selectors_do_not_contain_what_an_upgrade_changes(chart: helm.Chart) -> None:
    for values in ({}, PRODUCTION):
        for one in manifests(chart, values):
            if one["kind"] in {"StatefulSet", "Deployment"}:
                assert set(one["spec"]["selector"]["matchLabels"]) == {
                    "app.kubernetes.io/name",
                    "app.kubernetes.io/instance",
                    "app.kubernetes.io/component",
                }


IMMUTABLE: Mapping[str, Any] = {
    "kr-keyreeve-ca": ("kr-keyreeve-ca", [("state", ["ReadWriteOnce"], "1Gi")]),
    "kr-keyreeve-credentials": ("kr-keyreeve-credentials", [("state", ["ReadWriteOnce"], "1Gi")]),
    "kr-keyreeve-membership": ("kr-keyreeve-membership", [("state", ["ReadWriteOnce"], "1Gi")]),
}
"""Of the StatefulSets of release 0.1.0: what the API server lets no upgrade change, the service's name and the volume's claim."""


def test_an_upgrade_changes_no_field_that_is_immutable(chart: helm.Chart) -> None:
    found = manifests(chart, {})
    sets = {one["metadata"]["name"]: one["spec"] for one in found if one["kind"] == "StatefulSet"}
    assert {
        name: (
            spec["serviceName"],
            [
                (
                    claim["metadata"]["name"],
                    claim["spec"]["accessModes"],
                    claim["spec"]["resources"]["requests"]["storage"],
                )
                for claim in spec["volumeClaimTemplates"]
            ],
        )
        for name, spec in sets.items()
    } == IMMUTABLE
    assert all("labels" not in claim["metadata"] for spec in sets.values() for claim in spec["volumeClaimTemplates"])


def test_production_has_two_replicas_of_each_service_and_budgets_for_them(chart: helm.Chart) -> None:
    found = manifests(chart, PRODUCTION)
    deployments = {one["metadata"]["name"]: one["spec"] for one in found if one["kind"] == "Deployment"}
    assert {name: spec["replicas"] for name, spec in deployments.items()} == dict.fromkeys(
        ("kr-keyreeve-ca", "kr-keyreeve-credentials", "kr-keyreeve-membership", "kr-keyreeve-gateway"), 2
    )
    for spec in deployments.values():
        assert spec["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
        state = next(one for one in spec["template"]["spec"]["volumes"] if one["name"] == "state")
        assert state["emptyDir"]["medium"] == "Memory", "a service's key is never on a disk"
    assert {one["metadata"]["name"] for one in found if one["kind"] == "PodDisruptionBudget"} == set(deployments)


def test_an_autoscaled_deployment_leaves_its_replicas_alone(chart: helm.Chart) -> None:
    found = manifests(chart, VARIANTS["production, scaled"])
    scalers = {
        one["spec"]["scaleTargetRef"]["name"]: one["spec"] for one in found if one["kind"] == "HorizontalPodAutoscaler"
    }
    assert set(scalers) == {"kr-keyreeve-ca", "kr-keyreeve-gateway"}
    assert {(one["minReplicas"], one["maxReplicas"]) for one in scalers.values()} == {(3, 9)}
    fixed = {one["metadata"]["name"] for one in found if one["kind"] == "Deployment" and "replicas" in one["spec"]}
    assert fixed == {"kr-keyreeve-credentials", "kr-keyreeve-membership"}


def test_pools_are_sized_for_as_many_replicas_as_there_may_be(chart: helm.Chart) -> None:
    def replicas(name: str) -> dict[str, int]:
        found = [one for one in manifests(chart, VARIANTS[name]) if "settings.yaml" in one.get("data", ())]
        settings = {
            one["metadata"]["name"].rpartition("-")[2]: yaml.safe_load(one["data"]["settings.yaml"]) for one in found
        }
        return {service: each["database"]["replicas"] for service, each in settings.items() if "database" in each}

    assert replicas("production") == {"ca": 2, "membership": 2, "credentials": 2}
    assert replicas("production, scaled") == {"ca": 9, "membership": 2, "credentials": 2}
    assert replicas("everything") == {"ca": 3, "membership": 3, "credentials": 3}


def test_alerts_and_dashboards_are_installed_as_they_are(chart: helm.Chart) -> None:
    found = manifests(chart, VARIANTS["everything"])
    [rules] = [one["spec"] for one in found if one["kind"] == "PrometheusRule"]
    assert rules == yaml.safe_load((CHART / "files" / "alerts.yaml").read_text())
    files = {file.name: json.loads(file.read_text()) for file in (CHART / "files" / "dashboards").glob("*.json")}
    shown: dict[str, Any] = {}
    for one in found:
        if one["metadata"].get("labels", {}).get("grafana_dashboard") == "1":
            shown |= {name: json.loads(text) for name, text in one["data"].items()}
    assert files
    assert shown == files


LONG: dict[str, Any] = {"drain_seconds": 300, "listen": {"deadline": 90.5}}


@pytest.mark.parametrize(
    ("values", "longest"),
    [
        ({}, ServingSettings.model_fields["deadline"].default),
        (PRODUCTION, ServingSettings.model_fields["deadline"].default),
        ({name: {"settings": LONG} for name in SETTINGS}, 300),
        ({name: {"settings": {"listen": LONG["listen"]}} for name in SETTINGS}, 90.5),
    ],
)
def test_the_grace_period_is_longer_than_the_pause_and_the_drain_or_the_longest_call(
    chart: helm.Chart, values: dict[str, Any], longest: float
) -> None:
    for one in manifests(chart, values):
        if one["kind"] in {"StatefulSet", "Deployment"} and "helm.sh/hook" not in one["metadata"].get(
            "annotations", ()
        ):
            spec = one["spec"]["template"]["spec"]
            pause = spec["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
            assert longest >= MembershipSettings.model_fields["drain_seconds"].default
            assert pause + longest < spec["terminationGracePeriodSeconds"] < pause + longest + 30


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"profile": "production"}, "database.existingSecret"),
        ({"profile": "production", "database": {"existingSecret": "urls"}}, "kek.existingSecret"),
        ({**PRODUCTION, "persistence": {"ephemeral": True}}, "ephemeral"),
        ({**PRODUCTION, "vaultKeys": {"namespace": "control"}}, "vaultKeys.namespace"),
        ({"ca": {"replicas": 2}}, "SQLite has one writer"),
        ({"ca": {"autoscaling": {"enabled": True}}}, "SQLite has one writer"),
        ({"gateway": {"autoscaling": {"enabled": True}}}, "one replica"),
        ({"membership": {"enabled": False}}, "gateway.enabled"),
        ({"gateway": {"legacy": {"serverr": "x"}}}, "serverr"),
        ({"gateway": {"settings": {"services": {}}}}, "services"),
        ({"gateway": {"settings": {"ssh": {"port": 22}}}}, "port"),
        ({"gateway": {"ssh": {"port": 70000}}}, "port"),
        ({"gatewayApi": {"enabled": True}}, "domain and parentRefs"),
        ({"profile": "staging"}, "profile"),
        ({"unknown": 1}, "unknown"),
        ({"ca": {"replica": 2}}, "replica"),
        ({"trustDomain": "Not A Domain"}, "trustDomain"),
        ({"image": {"digest": "sha256:short"}}, "digest"),
        ({"workloads": ["web"]}, "workloads"),
        ({"ca": {"settings": {"worker": 2}}}, "worker"),
        ({"ca": {"settings": {"trust_domain": "other.test"}}}, "trust_domain"),
        ({"ca": {"settings": {"enroll": {"renew_expired_days": 91}}}}, "renew_expired_days"),
        ({"ca": {"settings": {"enroll": {"kubernetes": {}}}}}, "kubernetes"),
        ({"credentials": {"settings": {"vault": {"secrets": {}}}}}, "secrets"),
        ({"membership": {"settings": {"database": {"url": "sqlite:///x"}}}}, "url"),
        ({"membership": {"settings": {"database": {"replicas": 9}}}}, "replicas"),
        ({"ca": {"settings": {"database": {"direct_url": "postgresql://ca:password@db/x"}}}}, "direct_url"),
        ({"ca": {"settings": {"database": {"verify_tls": False}}}}, "verify_tls"),
        ({"ca": {"settings": {"tracing": {"endpoint": "otel.example.test:4317"}}}}, "tracing"),
        ({"gateway": {"settings": {"tracing": {}}}}, "tracing"),
        ({"credentials": {"settings": {"audit": {"syslog": "/dev/log"}}}}, "syslog"),
        ({"ca": {"settings": {"audit": {"file": "/var/lib/keyreeve/audit"}}}}, "file"),
        ({"networkPolicy": {"databaseCidrs": ["db.example.test"]}}, "databaseCidrs"),
    ],
)
def test_values_that_make_no_sense_are_refused(chart: helm.Chart, values: dict[str, Any], told: str) -> None:
    with pytest.raises(helm.HelmError, match=told):
        chart.render(values, name="kr", namespace="control")


def test_every_value_is_documented_and_in_the_closed_schema() -> None:
    text = (CHART / "values.yaml").read_text()
    schema = json.loads((CHART / "values.schema.json").read_text())

    def walk(values: Mapping[str, Any], node: Mapping[str, Any], path: str) -> None:
        assert node["additionalProperties"] is (path == "global."), path
        for key, value in values.items():
            assert key in node["properties"], f"{path}{key}"
            assert re.search(rf"# -- .*\n(\s*# .*\n)*\s*{key}:", text) or isinstance(value, dict), f"{path}{key}"
            if (
                isinstance(value, dict)
                and "properties" in node["properties"][key]
                and key not in {"settings", "resources"}
            ):
                walk(value, node["properties"][key], f"{path}{key}.")

    walk(yaml.safe_load(text), schema, "")
    for name, definition in schema["definitions"].items():
        assert definition.get("additionalProperties") is False or "properties" not in definition, name


def test_helm_finds_nothing_to_complain_about() -> None:
    assert helm.lint(str(CHART), strict=True)["errors"] == []
