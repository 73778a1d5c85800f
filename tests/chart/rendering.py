"""The chart, rendered by Helm's own engine with sets of values that change every value at least once."""

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import helm_python as helm
import yaml

CHART = Path(__file__).parents[2] / "helm" / "keyreeve"
CUSTOM_RESOURCES = ("monitoring.coreos.com/", "gateway.networking.k8s.io/")
PRODUCTION: dict[str, Any] = {
    "profile": "production",
    "database": {"existingSecret": "urls"},
    "kek": {"existingSecret": "keys"},
}
RESOURCES = {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"memory": "1Gi"}}
SCALED = {"enabled": True, "minReplicas": 3, "maxReplicas": 9, "targetCPUUtilizationPercentage": 50}
EVERYTHING: dict[str, Any] = {
    "profile": "production",
    "trustDomain": "control.example.test",
    "nameOverride": "other",
    "commonLabels": {"team": "trust"},
    "image": {
        "registry": "registry.example.test",
        "repository": "mirror/keyreeve",
        "digest": "sha256:" + "0" * 64,
        "pullPolicy": "Always",
    },
    "imagePullSecrets": ["pull"],
    "database": {"existingSecret": "urls", "adminSecret": "admin", "pooler": True, "contract": True},
    "ipv6": True,
    "kek": {"existingSecret": "keys"},
    "recoveryKey": {"existingSecret": "recovery"},
    "bootstrap": {"allowed": False},
    "vaultKeys": {"namespace": "keys-of-the-vault", "createNamespace": False},
    "pods": {
        "annotations": {"example.test/seen": "yes"},
        "labels": {"example.test/tier": "trust"},
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [{"key": "dedicated", "operator": "Exists"}],
        "affinity": {"podAntiAffinity": {}},
        "priorityClassName": "system-cluster-critical",
    },
    "ca": {
        "replicas": 3,
        "settings": {
            "workers": 4,
            "enroll": {"address": "enroll.example.test:443", "renew_expired_days": 3},
            "operators": {"two_persons": True},
        },
        "resources": RESOURCES,
    },
    "membership": {"replicas": 3, "settings": {"roll": {"report_seconds": 10}}, "resources": RESOURCES},
    "credentials": {"replicas": 3, "settings": {"vault": {"backup_days": 7}}, "resources": RESOURCES},
    "gateway": {
        "replicas": 3,
        "settings": {"ssh": {"host_name": "appliance", "connections": 64}},
        "legacy": {"server": "web-1.example.test", "failed_code": 3},
        "ssh": {"port": 2222, "serviceType": "LoadBalancer", "annotations": {"example.test/internal": "true"}},
        "resources": RESOURCES,
    },
    "workloads": ["shop/web"],
    "clusterTrustBundle": {"enabled": True, "signerName": "example.test/roots"},
    "check": {"seconds": 60, "members": True},
    "networkPolicy": {
        "apiServerPort": 443,
        "apiServerCidrs": ["10.96.0.1/32"],
        "databasePorts": [5432, 6432],
        "databaseCidrs": ["10.1.0.0/24", "fd00:1::/64"],
        "peerPorts": [5428],
        "allowNamespaces": [{"matchLabels": {"team": "shop"}}],
        "allowCidrs": ["10.0.0.0/8"],
    },
    "gatewayApi": {"enabled": True, "parentRefs": [{"name": "edge"}], "domain": "trust.example.test", "health": True},
    "metrics": {"podMonitor": True, "serviceMonitor": True, "rules": True, "dashboards": True},
    "extraObjects": [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "{{ .Release.Name }}-extra"}}],
}
VARIANTS: Mapping[str, dict[str, Any]] = {
    "dev": {},
    "dev elsewhere": {
        "fullnameOverride": "trust",
        "namespaceOverride": "trusted",
        "image": {"tag": "2"},
        "global": {
            "imageRegistry": "mirror.example.test",
            "imagePullSecrets": ["shared"],
            "labels": {"team": "platform"},
            "priorityClassName": "important",
        },
        "persistence": {"size": "5Gi", "storageClass": "fast"},
        "check": {"enabled": False},
    },
    "dev in memory": {"persistence": {"ephemeral": True}, "networkPolicy": {"enabled": False}},
    "the CA alone": {name: {"enabled": False} for name in ("membership", "credentials", "gateway")},
    "production": PRODUCTION,
    "production, scaled": {
        **PRODUCTION,
        "ca": {"autoscaling": SCALED},
        "gateway": {"autoscaling": SCALED, "ssh": {"port": None}},
    },
    "everything": EVERYTHING,
}

Manifest = dict[str, Any]
_RENDERED: dict[str, str] = {}


def manifests(chart: helm.Chart, values: dict[str, Any]) -> list[Manifest]:
    """Render the chart as the release `kr` in the namespace `control`, once for all tests that ask for the same."""
    asked = json.dumps(values)
    if asked not in _RENDERED:
        rendered = chart.render(values, name="kr", namespace="control")
        texts = [text for path, text in sorted(rendered.items()) if not path.endswith((".txt", ".tpl"))]
        found = [one for text in texts for one in yaml.load_all(text, yaml.CSafeLoader) if one]
        _RENDERED[asked] = json.dumps(found)
    made: list[Manifest] = json.loads(_RENDERED[asked])
    return made


def recovery_command(chart: helm.Chart, values: dict[str, Any]) -> list[str]:
    """What the release's notes tell the first admin to run in the CA's pod."""
    rendered = chart.render(values, name="kr", namespace="control")
    [notes] = [text for path, text in rendered.items() if path.endswith("NOTES.txt")]
    [line] = [line for line in notes.splitlines() if " recover " in line]
    return shlex.split(line.partition(" -- ")[2])


def settings_of(chart: helm.Chart, values: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The settings of each service."""
    found = [one for one in manifests(chart, values) if "settings.yaml" in one.get("data", ())]
    return {one["metadata"]["name"].rpartition("-")[2]: yaml.safe_load(one["data"]["settings.yaml"]) for one in found}


def pods(found: list[Manifest]) -> list[tuple[str, dict[str, Any]]]:
    """The specs of all pods, with those of hooks and tests."""
    specs = [(one["metadata"]["name"], one["spec"]) for one in found if one["kind"] == "Pod"]
    controlled = [one for one in found if one["kind"] in {"Deployment", "StatefulSet", "Job"}]
    return specs + [(one["metadata"]["name"], one["spec"]["template"]["spec"]) for one in controlled]


def containers(spec: Mapping[str, Any]) -> list[dict[str, Any]]:
    """All containers of a pod."""
    return [*spec.get("initContainers", ()), *spec["containers"]]


def leaves(values: Mapping[str, Any], path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """Every value by its path; an empty map, and settings and resources as a whole, are values."""
    found: dict[tuple[str, ...], Any] = {}
    for key, value in values.items():
        whole = not isinstance(value, dict) or not value or key in {"settings", "resources"}
        found |= {(*path, key): value} if whole else leaves(value, (*path, key))
    return found
