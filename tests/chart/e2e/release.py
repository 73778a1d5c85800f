"""One release of the chart: installed, checked, disturbed under load, removed and installed again."""

import base64
import json
import os
import random
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import helm_python as helm
import yaml

from chart.e2e import postgresql
from chart.e2e.cluster import Namespace, StepFailed, say, seconds_to_ready, wait_for
from chart.e2e.toolbox import MEMBERS, PEER_PORT, Toolbox

CHART = Path(__file__).resolve().parents[3] / "helm" / "keyreeve"
RELEASE = "keyreeve"
SERVICES = ("ca", "credentials", "membership", "gateway")
PORTS = {"ca": 7443, "membership": 7444, "credentials": 7445, "gateway": 7446}
SECONDS = 240
_SELECTOR = "app.kubernetes.io/component={},app.kubernetes.io/part-of=keyreeve"
PRODUCTION: dict[str, Any] = {
    "profile": "production",
    "database": {"existingSecret": "database-urls", "adminSecret": "database-admin"},
    "kek": {"existingSecret": "kek"},
    "recoveryKey": {"existingSecret": "recovery-key"},
}


@dataclass(frozen=True)
class Release:
    """The release in a namespace of its own."""

    config: helm.Config
    namespace: Namespace
    values: dict[str, Any]
    image: str

    @property
    def production(self) -> bool:
        return self.values.get("profile") == "production"

    @property
    def toolbox(self) -> Toolbox:
        return Toolbox(self.namespace, RELEASE, self.image, production=self.production)

    def install(self) -> None:
        """Install it; the chart's own check has passed when this returns."""
        started = time.monotonic()
        try:
            self.config.install(str(CHART), RELEASE, self.values, create_namespace=True, timeout=SECONDS)
        except helm.HelmError as failure:
            raise StepFailed(f"helm install: {failure}") from failure
        say(f"installed and checked: after {time.monotonic() - started:.1f} s")
        self.wait_until_ready()

    def upgrade(self, **changes: Any) -> None:
        """Upgrade it with changed values."""
        self.config.upgrade(str(CHART), RELEASE, {**self.values, **changes}, wait="watcher", timeout=SECONDS)

    def wait_until_ready(self) -> None:
        """Wait until every pod is ready, and there are as many as there should be."""
        wait_for("every pod is ready", self._ready)
        pods = [pod for service in SERVICES for pod in self.namespace.pods(_SELECTOR.format(service))]
        say(f"the slowest was ready {max(map(seconds_to_ready, pods)):.0f} s after its container had started")

    def test(self) -> None:
        """Run the chart's test."""
        self.config.test(RELEASE, timeout=SECONDS)
        for pod in (f"{RELEASE}-test", *(() if self.production else (f"{RELEASE}-test-array",))):
            say("helm test: " + "; ".join(self.namespace.kubectl("logs", pod).splitlines()))

    def try_services(self) -> None:
        """Use every service once, beside the chart's test, which joins two servers of its own with `dev`."""
        with ThreadPoolExecutor(1) as beside:
            testing = beside.submit(self.test)
            toolbox = self.toolbox
            toolbox.start()
            if self.production:
                servers = toolbox.join_agents()
                toolbox.put_and_resolve()
            else:
                servers = [toolbox.make_array()]
            testing.result()
            toolbox.use_gateway(servers)
        self.lose_bundle()

    def lose_bundle(self) -> None:
        """Delete the bundle and wait for it: the same, since nothing is bootstrapped again."""
        before, note = self._bundle(), self._note()
        self.namespace.kubectl("delete", "configmap", f"{RELEASE}-bundle")
        wait_for("the deleted bundle is back, the same", lambda: self._bundle() == before)
        if self._note() != note:
            raise StepFailed("something was bootstrapped again")

    def restart(self, *services: str) -> None:
        """Restart services at once, each pod by pod."""
        names = [self._workload(service) for service in services]
        self.namespace.kubectl("rollout", "restart", *names)
        for name in names:
            self.namespace.kubectl("rollout", "status", name, f"--timeout={SECONDS}s")
        say(f"restarted {', '.join(services)}")

    def check_forbidden_edges(self) -> None:
        """Try a connection that a policy allows and one that none allows, where the cluster enforces policies."""
        [member] = self.namespace.pods(f"app={MEMBERS[0]}")
        target = member["status"]["podIP"]  # a denied pod would wait long for the name server
        if not self._connects("membership", target):
            raise StepFailed("the membership service does not reach a member's agent")
        denied = {"podSelector": {"matchLabels": {"app": MEMBERS[1]}}, "policyTypes": ["Egress"]}
        api = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy"}
        self.namespace.apply({**api, "metadata": {"name": "probe"}, "spec": denied})
        try:
            enforced = not self._connects(MEMBERS[1], target)
        finally:
            self.namespace.kubectl("delete", "networkpolicy", "probe")
        if not enforced:
            say("this cluster does not enforce network policies")
            return
        if self._connects("credentials", target):
            raise StepFailed("the vault reaches a member's agent, which no access rule needs")
        for callee, edge in yaml.safe_load((CHART / "files" / "edges.yaml").read_text()).items():
            host = self.namespace.pods(_SELECTOR.format(callee))[0]["status"]["podIP"]
            for caller in SERVICES:
                allowed = caller in edge["services"]
                if caller != callee and self._connects(caller, host, PORTS[callee]) != allowed:
                    raise StepFailed(f"{caller} {'does not reach' if allowed else 'reaches'} {callee}")
        say("every connection between services that no access rule needs is cut, and no other")

    def _connects(self, pod: str, host: str, port: int = PEER_PORT) -> bool:
        code = f"import socket; socket.create_connection(({host!r}, {port}), 2).close(); print('connected')"
        place = pod if pod in MEMBERS else self._workload(pod)
        done = self.namespace.kubectl("exec", place, "--", "python3", "-c", code, check=False)
        return "connected" in done

    def kill(self, seconds: float, seed: int) -> None:
        """Kill pods at random for so long, one at a time, as a crash does: without grace."""
        choose = random.Random(seed)
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            service = choose.choice(SERVICES)
            pods = self.namespace.pods(_SELECTOR.format(service))
            pod = choose.choice([one["metadata"]["name"] for one in pods])
            self.namespace.kubectl("delete", "pod", pod, "--grace-period=0", "--force", check=False)
            say(f"killed {pod}")
            self.wait_until_ready()

    def reinstall(self) -> None:
        """Uninstall, and install again on what uninstalling leaves: the same roots."""
        before, note = self._bundle(), self._note()
        self.config.uninstall(RELEASE)
        selector = f"app.kubernetes.io/component in ({','.join(SERVICES)})"
        wait_for("every pod is gone", lambda: not self.namespace.pods(selector))
        if self._note() != note:
            raise StepFailed("uninstalling takes the note of the control plane away")
        self.install()
        wait_for("the roots are the same", lambda: self._bundle() == before)
        if self._note() != note:
            raise StepFailed("something was bootstrapped again")

    def _workload(self, service: str) -> str:
        kind = "deployment" if self.production or service == "gateway" else "statefulset"
        return f"{kind}/{RELEASE}-{service}"

    def _ready(self) -> bool:
        count = 2 if self.production else 1
        return all(self.namespace.ready(_SELECTOR.format(service), count) for service in SERVICES)

    def _bundle(self) -> str:
        path = r"jsonpath={.data.control\.pem}"
        return self.namespace.kubectl("get", "configmap", f"{RELEASE}-bundle", "-o", path, check=False)

    def _note(self) -> str:
        if not self.production:
            return ""
        found = json.loads(self.namespace.kubectl("get", "secret", f"{RELEASE}-control-plane", "-o", "json"))
        return base64.b64decode(found["data"]["control-plane.json"]).decode()


def try_dev(release: Release) -> None:
    """The profile `dev`: everything once."""
    release.install()
    release.try_services()
    release.test()
    # With `persistence.ephemeral`, the CA's roots would be gone with its pod.
    if release.values["persistence"]["ephemeral"]:
        release.restart("membership")
        return
    release.restart(*SERVICES)
    release.reinstall()
    release.toolbox.check_resolution()


def try_production(release: Release, database_image: str, *, rounds: int, kill_seconds: float, seed: int) -> None:
    """The profile `production`: restarts, an upgrade, a roll back and kills under load."""
    namespace = release.namespace
    namespace.kubectl("create", "namespace", namespace.name, check=False)
    postgresql.make_server(namespace, database_image)
    postgresql.make_keys(namespace)
    wait_for("the database is ready", lambda: namespace.ready(f"app={postgresql.NAME}", 1))
    release.install()
    namespace.kubectl("delete", "secret", "recovery-key")
    release.try_services()
    release.check_forbidden_edges()
    toolbox = release.toolbox
    with toolbox.load():
        for _ in range(rounds):
            release.restart(*SERVICES)
        release.upgrade(
            bootstrap={"allowed": False},
            database=PRODUCTION["database"] | {"contract": True},
            pods={"annotations": {"keyreeve.test/upgraded": "yes"}},
        )
        say("upgraded")
        release.config.rollback(RELEASE, version=1, wait="watcher", timeout=SECONDS)
        say("rolled back")
    with toolbox.load():
        release.kill(kill_seconds, seed)
    release.reinstall()
    toolbox.check_resolution()


def remove(namespace: Namespace) -> None:
    """Delete the namespace and what the chart leaves beside it."""
    for name in (namespace.name, f"{namespace.name}-vault-keys"):
        namespace.kubectl("delete", "namespace", name, "--wait=false", "--ignore-not-found", check=False)


def kubeconfig() -> str | None:
    """The file that KUBECONFIG names."""
    return os.environ.get("KUBECONFIG")
