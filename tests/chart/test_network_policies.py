"""The chart's network policies: default deny, and the edges of the access rules."""

from typing import Any

import helm_python as helm
import pytest
import yaml

from chart.rendering import CHART, PRODUCTION, Manifest, manifests
from keyreeve.identity import SERVICE_ROLES, Role
from keyreeve_ca.enrollment import token_servicer
from keyreeve_credentials.entries import servicer as entry_servicer
from keyreeve_gateway.execute import servicer as gateway_servicer
from keyreeve_membership.roll import member_servicer

SERVICES = ("ca", "credentials", "membership", "gateway")


@pytest.fixture(scope="module")
def policies() -> dict[str, Manifest]:
    return policies_of(PRODUCTION)


def policies_of(values: dict[str, Any]) -> dict[str, Manifest]:
    with helm.Chart.load(str(CHART)) as chart:
        found = [one for one in manifests(chart, values) if one["kind"] == "NetworkPolicy"]
    return {one["metadata"]["name"].removeprefix("kr-keyreeve-"): one["spec"] for one in found}


def components(peers: list[dict[str, Any]]) -> set[str]:
    """The components of the release that these peers are."""
    labels = [peer.get("podSelector", {}).get("matchLabels", {}) for peer in peers]
    return {one["app.kubernetes.io/component"] for one in labels if "app.kubernetes.io/component" in one}


def allowed_in(policy: Manifest, port: str) -> set[str]:
    rules = [rule for rule in policy["ingress"] if {"port": port} in rule["ports"]]
    return {one for rule in rules for one in components(rule["from"])}


def allowed_out(policy: Manifest, port: str) -> set[str]:
    rules = [rule for rule in policy["egress"] if {"port": port} in rule["ports"] and "to" in rule]
    return {one for rule in rules for one in components(rule["to"])}


def test_what_no_policy_allows_is_denied_to_every_pod(policies: dict[str, Manifest]) -> None:
    assert policies["deny"] == {
        "podSelector": {
            "matchLabels": {"app.kubernetes.io/name": "keyreeve", "app.kubernetes.io/instance": "kr"},
        },
        "policyTypes": ["Ingress", "Egress"],
    }
    assert set(policies) == {*SERVICES, "check", "deny", "migrate"}
    for policy in policies.values():
        assert policy["policyTypes"] == ["Ingress", "Egress"]
        for rule in policy.get("ingress", ()):
            open_to_all = [{"port": "health"}, {"port": "metrics"}]
            assert rule.get("from") or rule["ports"] == open_to_all, "an empty list of peers would allow all"


def test_the_edges_between_services_are_those_of_the_access_rules(policies: dict[str, Manifest]) -> None:
    edges = yaml.safe_load((CHART / "files" / "edges.yaml").read_text())
    for callee in SERVICES:
        callers = set(edges[callee]["services"]) & set(SERVICES)
        assert allowed_in(policies[callee], "grpc") - {"check"} == callers
        for caller in SERVICES:
            assert (callee in allowed_out(policies[caller], "grpc")) == (caller in callers), f"{caller} to {callee}"


@pytest.mark.parametrize(
    ("service", "rules"),
    [
        ("ca", token_servicer.ACCESS),
        ("credentials", entry_servicer.ACCESS),
        ("membership", member_servicer.ACCESS),
        ("gateway", gateway_servicer.ACCESS),
    ],
)
def test_the_edges_have_every_service_that_a_rule_names(service: str, rules: Any) -> None:
    edges = yaml.safe_load((CHART / "files" / "edges.yaml").read_text())[service]
    named = {role for rule in rules.values() for role in rule.roles}
    services = {role.removeprefix("services/") for role in named & SERVICE_ROLES} - {service}
    assert services <= set(edges["services"])
    assert edges["others"] or not named & {Role.MEMBER, Role.ADMIN, Role.WORKLOAD}


def test_enrollment_and_migrations_reach_what_they_need_and_nothing_else(policies: dict[str, Manifest]) -> None:
    assert allowed_in(policies["ca"], "enroll") == {"credentials", "membership", "gateway", "check"}
    for name in ("credentials", "membership", "gateway", "check"):
        assert allowed_out(policies[name], "enroll") == {"ca"}
    dns = {"ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]}
    assert policies["migrate"]["egress"] == [dns, {"ports": [{"port": 5432}]}]
    assert "ingress" not in policies["migrate"]
    to_api_server = {"ports": [{"port": 443}, {"port": 6443}]}
    assert [name for name in SERVICES if to_api_server in policies[name]["egress"]] == ["ca", "credentials"]
    to_database = {"ports": [{"port": 5432}]}
    assert [name for name in SERVICES if to_database in policies[name]["egress"]] == ["ca", "credentials", "membership"]


def test_the_database_and_the_api_server_may_be_limited_to_networks() -> None:
    limits = {
        "apiServerCidrs": ["10.96.0.1/32"],
        "databasePorts": [5432, 6432],
        "databaseCidrs": ["10.1.0.0/24", "fd00::/64"],
    }
    found = policies_of({**PRODUCTION, "networkPolicy": limits})
    to_database = {
        "ports": [{"port": 5432}, {"port": 6432}],
        "to": [{"ipBlock": {"cidr": "10.1.0.0/24"}}, {"ipBlock": {"cidr": "fd00::/64"}}],
    }
    assert {name for name, policy in found.items() if to_database in policy.get("egress", ())} == {
        "ca", "credentials", "membership", "migrate",
    }  # fmt: skip
    to_api_server = {"ports": [{"port": 443}, {"port": 6443}], "to": [{"ipBlock": {"cidr": "10.96.0.1/32"}}]}
    assert {name for name in SERVICES if to_api_server in found[name]["egress"]} == {"ca", "credentials"}
    for policy in found.values():
        for rule in policy.get("egress", ()):
            names = {port["port"] for port in rule["ports"]}
            assert "to" in rule or names in ({53}, {5427}), (
                "to any host go questions of names, and calls of members' agents"
            )


def test_ssh_is_open_to_callers_from_outside_the_release_and_to_none_of_its_services(
    policies: dict[str, Manifest],
) -> None:
    for name in SERVICES:
        ports = [port["port"] for rule in policies[name]["ingress"] for port in rule["ports"]]
        assert ("ssh" in ports) == (name == "gateway")
    assert allowed_in(policies["gateway"], "ssh") == {"check"}


def test_servers_of_the_charts_test_reach_what_they_need_and_are_dialed_by_each_other_and_by_membership(
    policies: dict[str, Manifest],
) -> None:
    assert "ingress" not in policies["check"]
    assert allowed_out(policies["check"], "grpc") == {"ca"}
    assert allowed_out(policies["membership"], "peer") == set()
    tested = policies_of({})
    assert allowed_in(tested["check"], "peer") == {"membership", "check"}
    assert allowed_out(tested["check"], "peer") == {"check"}
    assert allowed_out(tested["check"], "grpc") == {"ca", "membership", "credentials"}
    assert {name for name in SERVICES if "check" in allowed_out(tested[name], "peer")} == {"membership"}
    for name in ("ca", "membership", "credentials"):
        assert "check" in allowed_in(tested[name], "grpc")
