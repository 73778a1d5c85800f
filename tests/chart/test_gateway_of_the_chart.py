"""The gateway in the chart: neither database nor keys, SSH at a Service, and routes."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import helm_python as helm
import pytest
import yaml

from chart.rendering import CHART, PRODUCTION, VARIANTS, manifests
from keyreeve_gateway.settings import load_settings


@pytest.fixture(scope="module")
def chart() -> Iterator[helm.Chart]:
    with helm.Chart.load(str(CHART)) as loaded:
        yield loaded


def test_the_gateway_has_neither_database_nor_keys_and_finds_the_services_that_it_calls(chart: helm.Chart) -> None:
    for values, kind in (({}, "Deployment"), (PRODUCTION, "Deployment")):
        found = manifests(chart, values)
        [gateway] = [one for one in found if one["metadata"]["name"] == "kr-keyreeve-gateway" and one["kind"] == kind]
        spec = gateway["spec"]["template"]["spec"]
        assert {one["name"] for one in spec["volumes"]} == {"tmp", "state", "settings", "bundle", "token"}
        assert "secret" not in json.dumps(spec["volumes"])
        assert "volumeClaimTemplates" not in gateway["spec"]
        services = {one["metadata"]["name"] for one in found if one["kind"] == "Service"}
        [config_map] = [
            one for one in found if one["kind"] == "ConfigMap" and one["metadata"]["name"].endswith("-gateway")
        ]
        addresses = yaml.safe_load(config_map["data"]["settings.yaml"])["services"]
        assert addresses == {
            "membership": ["kr-keyreeve-membership.control.svc:7444"],
            "credentials": ["kr-keyreeve-credentials.control.svc:7445"],
        }
        assert {address.partition(".")[0] for [address] in addresses.values()} <= services


def test_ssh_has_a_service_with_the_port_of_the_values_and_none_where_it_is_off(chart: helm.Chart) -> None:
    def ssh(name: str) -> list[dict[str, Any]]:
        found = manifests(chart, VARIANTS[name])
        return [one for one in found if one["kind"] == "Service" and one["metadata"]["name"].endswith("-ssh")]

    [inside], [outside] = ssh("dev"), ssh("everything")
    assert inside["spec"]["ports"] == [{"name": "ssh", "port": 22, "targetPort": "ssh"}]
    assert outside["spec"]["ports"] == [{"name": "ssh", "port": 2222, "targetPort": "ssh"}]
    assert (outside["spec"]["type"], outside["spec"]["externalTrafficPolicy"]) == ("LoadBalancer", "Local")
    assert outside["metadata"]["annotations"] == {"example.test/internal": "true"}
    assert ssh("production, scaled") == []


def test_the_settings_of_the_commands_are_those_of_the_values(chart: helm.Chart, tmp_path: Path) -> None:
    for name in ("dev", "everything"):
        made = manifests(chart, VARIANTS[name])
        [found] = [one for one in made if "legacy.toml" in one.get("data", ())]
        (tmp_path / "legacy.toml").write_text(found["data"]["legacy.toml"])
        settings = load_settings(tmp_path, {})
        assert (settings.server, settings.failed_code) == (
            ("web-1.example.test", 3) if name == "everything" else ("", 1)
        )


def test_health_alone_is_routed_call_by_call(chart: helm.Chart) -> None:
    found = manifests(chart, VARIANTS["everything"])
    routes = [one["spec"] for one in found if one["kind"] == "GRPCRoute"]
    assert {one["hostnames"][0] for one in routes} == {
        f"health-{service}.trust.example.test" for service in ("ca", "membership", "credentials", "gateway")
    }
    ports = {
        one["metadata"]["name"]: {port["port"]: port["targetPort"] for port in one["spec"]["ports"]}
        for one in found
        if one["kind"] == "Service"
    }
    for route in routes:
        [rule] = route["rules"]
        assert [match["method"]["service"] for match in rule["matches"]] == ["grpc.health.v1.Health"]
        [backend] = rule["backendRefs"]
        assert ports[backend["name"]][backend["port"]] == "health"
    passed = {one["spec"]["hostnames"][0].partition(".")[0] for one in found if one["kind"] == "TLSRoute"}
    assert passed == {"ca", "ca-enroll", "membership", "credentials", "gateway"}
