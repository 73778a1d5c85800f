"""A pod from which an admin works, two agents in pods, and load through the SDK."""

import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chart.e2e.cluster import Namespace, StepFailed, is_ready, restricted, say, wait_for

POD = "toolbox"
ARRAY = "web"
MEMBERS = ("web-1", "web-2")
PEER_PORT = 5427
_PYTHON = ("python3", "-P", "-m")
_PASSWORD = "a password that the test has made up"
_WAIT = "import signal; signal.sigwait({signal.SIGTERM})"


@dataclass(frozen=True)
class Toolbox:
    """The admin's pod beside a release."""

    namespace: Namespace
    release: str
    image: str
    production: bool

    def start(self) -> None:
        """Start the pod and become an admin with a token that the CA prints."""
        files = Path(__file__).parent
        self.namespace.apply(
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": POD},
                "data": {"load.py": (files / "load.py").read_text()},
            },
            self._pod(POD, [{"name": "e2e", "configMap": {"name": POD}}], {"name": "e2e", "mountPath": "/e2e"}),
        )
        wait_for("the toolbox is ready", lambda: is_ready_pod(self.namespace, POD))
        ca = f"{'deployment' if self.production else 'statefulset'}/{self.release}-ca"
        secrets = ("--secrets", "/etc/keyreeve/secrets") if self.production else ()
        settings = ("--config", "/etc/keyreeve/settings/settings.yaml", *secrets)
        told = json.loads(
            self.namespace.execute(ca, *_PYTHON, "keyreeve_ca", "recover", *settings, "--operator", "e2e")
        )
        self.python(
            "keyreeve.cli", "operator", "accept", "--dir", "/scratch/me", given=told["invitation"]["token"] + "\n"
        )
        host = f"{{service}}.{self.namespace.name}.svc:{{port}}"
        endpoints = {
            service: [host.format(service=f"{self.release}-{service}", port=port)]
            for service, port in (("ca", 7443), ("membership", 7444), ("credentials", 7445), ("gateway", 7446))
        }
        code = (
            "import json, pathlib; file = pathlib.Path('/scratch/me/context.json'); found = json.loads(file.read_text()); "
            f"found['endpoints'] = {endpoints!r}; file.write_text(json.dumps(found))"
        )
        self.namespace.execute(POD, "python3", "-c", code)
        say(f"the toolbox is {self.keyreeve('whoami', '-q').strip()}")

    def python(self, module: str, *arguments: str, given: str | None = None) -> str:
        """Run a module in the pod."""
        return self.namespace.execute(POD, *_PYTHON, module, *arguments, given=given)

    def keyreeve(self, *arguments: str, given: str | None = None) -> str:
        """Run a command as the admin."""
        environment = ("env", "KEYREEVE_CONTEXT=/scratch/me/context.json", f"KEYREEVE_ARRAY={ARRAY}")
        return self.namespace.execute(POD, *environment, *_PYTHON, "keyreeve.cli", *arguments, given=given)

    def listed(self, *arguments: str) -> list[dict[str, Any]]:
        """Run a command that lists, and read its rows."""
        found = json.loads(self.keyreeve(*arguments, "-o", "json"))
        rows: list[dict[str, Any]] = found if isinstance(found, list) else next(iter(found.values()))
        return rows

    def join_agents(self) -> list[str]:
        """Let two agents enroll in pods of their own, and join the second to the array of the first; return their names."""
        for member in MEMBERS:
            self._start_agent(member)
        names = [f"{member}.members.test" for member in MEMBERS]

        def reported() -> bool:
            return set(names) <= {one["name"] for one in self.listed("member", "list") if one["reported_at"]}

        wait_for("two agents have reported", reported)
        [array] = [one for one in self.listed("array", "list") if one["primary"] == names[0]]
        self.keyreeve("array", "join", *names, "--accept", array["fingerprint"], "--wait")
        [array] = [one for one in self.listed("array", "list") if one["primary"] == names[0]]
        if array["members"] != len(names):
            raise StepFailed(f"the agents have not joined: {array}")
        say("two agents have joined to one array")
        return names

    def make_array(self) -> str:
        """Put a server without an agent into the roll, alone in its array, and return its name."""
        name = f"{MEMBERS[0]}.members.test"
        self.keyreeve("array", "create", name, "--address", f"{name}:{PEER_PORT}", "--release", "5.40.908")
        return name

    def put_and_resolve(self) -> None:
        """Put a password into the vault, resolve it, and read it."""
        launch = (
            "--owner",
            "o=Indigo/cn=Ada",
            "--application",
            "o=Indigo/cn=Word",
            "--application-server",
            "o=Indigo/cn=prague",
        )
        self.keyreeve(
            "vault", "object", "put", "o=Indigo/cn=prague", "--kind", "application-server", "--domain", "INDIGO"
        )
        self.keyreeve("vault", "object", "put", "o=Indigo/cn=Word", "--kind", "application", "--runs-on", "windows")
        entry = ("--owner", "o=Indigo/cn=Ada", "--resource", ".../_wns/INDIGO")
        self.keyreeve("vault", "put", *entry, "--user", "ada", given=_PASSWORD + "\n")
        self.check_resolution(launch)
        say("put a password, and resolved it")

    def check_resolution(self, launch: tuple[str, ...] = ()) -> None:
        """Resolve the password that was put."""
        asked = launch or (
            "--owner", "o=Indigo/cn=Ada", "--application", "o=Indigo/cn=Word", "--application-server", "o=Indigo/cn=prague",
        )  # fmt: skip
        if _PASSWORD not in self.keyreeve("vault", "resolve", *asked, "--reveal"):
            raise StepFailed("the vault does not resolve what was put")

    def use_gateway(self, servers: Sequence[str]) -> None:
        """Have the gateway carry out a legacy command on the array of the first of its servers, and see that SSH answers."""
        code = "import sys; from keyreeve_gateway.commands import tarantella; sys.argv[1:] = ['array', 'list']; tarantella()"
        environment = ("env", "KEYREEVE_CONTEXT=/scratch/me/context.json", f"KEYREEVE_SERVER={servers[0]}")
        listed = self.namespace.execute(POD, *environment, "python3", "-P", "-c", code)
        if not all(server in listed for server in servers):
            raise StepFailed(f"`tarantella array list` through the gateway: {listed}")
        address = (f"{self.release}-ssh.{self.namespace.name}.svc", 22)
        code = f"import socket; print(socket.create_connection({address!r}, 2).recv(64))"

        def greets() -> bool:
            return "SSH-2.0-Keyreeve" in self.namespace.kubectl("exec", POD, "--", "python3", "-c", code, check=False)

        wait_for("the gateway serves SSH", greets)

    @contextmanager
    def load(self) -> Iterator[None]:
        """Load through the SDK while the context lasts. Raises `StepFailed` when any call failed for good."""
        self.namespace.execute(POD, "rm", "-f", "/scratch/stop")
        namespace = ("--namespace", self.namespace.name)
        arguments = ("--context", "/scratch/me/context.json", "--stop", "/scratch/stop", "--array", ARRAY)
        command = ["kubectl", *namespace, "exec", POD, "--", "python3", "-P", "/e2e/load.py", *arguments]
        command += ["--directory", "/scratch/enrolled", "--members", *(f"{member}.members.test" for member in MEMBERS)]
        running = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            yield
        finally:
            self.namespace.execute(POD, "touch", "/scratch/stop")
            output, _ = running.communicate(timeout=120)
        self.namespace.execute(POD, "rm", "-rf", "/scratch/enrolled")
        done = json.loads(output)
        say(f"load: {json.dumps(done)}")
        for kind, outcome in done.items():
            if outcome["failures"] or not outcome["succeeded"]:
                raise StepFailed(f"{kind} under load: {outcome}")

    def _start_agent(self, member: str) -> None:
        name = f"{member}.members.test"
        token = self.keyreeve("token", "create", f"members/{name}", "-q").strip()
        self.namespace.secret(f"{member}-token", {"token": token})
        host = self.namespace.name
        settings = {
            "address": f"{member}.{host}.svc:{PEER_PORT}",
            "listen": f"0.0.0.0:{PEER_PORT}",
            "state_directory": "/scratch/agent",
            "endpoints": {
                "ca": [f"{self.release}-ca.{host}.svc:7443"],
                "membership": [f"{self.release}-membership.{host}.svc:7444"],
            },
        }
        config = {"name": "config", "configMap": {"name": member}}
        agent = "[sys.executable, '-P', '-m', 'keyreeve_agent', '--config', '/e2e/agent.yaml']"
        enroll = f"subprocess.run([*{agent}, 'enroll', '--token', '/token/token'], check=True)"
        run = f"import subprocess, sys; {enroll}; sys.exit(subprocess.run([*{agent}, 'run']).returncode)"
        pod = self._pod(
            member,
            [config, {"name": "token", "secret": {"secretName": f"{member}-token", "defaultMode": 0o440}}],
            {"name": "config", "mountPath": "/e2e"},
            {"name": "token", "mountPath": "/token"},
            command=["python3", "-c", run],
        )
        self.namespace.apply(
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": member},
                "data": {"agent.yaml": json.dumps(settings)},
            },
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": member},
                "spec": {
                    "clusterIP": "None",
                    "publishNotReadyAddresses": True,
                    "selector": {"app": member},
                    "ports": [{"port": PEER_PORT}],
                },
            },
            pod,
        )

    def _pod(
        self,
        name: str,
        volumes: list[dict[str, Any]],
        *mounts: dict[str, Any],
        command: list[str] | None = None,
    ) -> dict[str, Any]:
        container = {
            "name": name,
            "image": self.image,
            "imagePullPolicy": "IfNotPresent",
            "command": command or ["python3", "-c", _WAIT],
            "volumeMounts": [{"name": "work", "mountPath": "/scratch"}, {"name": "tmp", "mountPath": "/tmp"}, *mounts],
        }
        empty = [{"name": "work", "emptyDir": {}}, {"name": "tmp", "emptyDir": {}}]
        spec = restricted([container], [*empty, *volumes], terminationGracePeriodSeconds=2)
        return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}}, "spec": spec}


def is_ready_pod(namespace: Namespace, name: str) -> bool:
    """Whether a pod is ready."""
    return any(is_ready(pod) for pod in namespace.pods(f"app={name}"))
