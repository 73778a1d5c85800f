"""The pods of a rendered chart as processes: their own command lines, settings and files, each with an address on loopback."""

import json
import os
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import grpc
import yaml

from chart.processes.forwarder import Forwarder, forwarders
from chart.rendering import Manifest, containers
from support.token_reviews import ApiServer, status_of
from support.waiting import wait_for

PREFIX, NAMESPACE = "kr-keyreeve", "control"
SERVICES = ("ca", "credentials", "membership", "gateway")
PORTS = {"ca": 7443, "membership": 7444, "credentials": 7445, "gateway": 7446}
ADDRESSES = 3
"""For each service: two replicas, and a third while one is replaced."""
_MARK = "KEYREEVE_TEST_POD"
_GRACE_SECONDS = 40.0
_SERVING = b"\x08\x01"


@dataclass
class Pod:
    """One pod: a directory, and its process while it runs."""

    service: str
    uid: str
    host: str
    directory: Path
    command: list[str]
    environment: dict[str, str]
    process: "subprocess.Popen[bytes] | None" = None

    def start(self) -> None:
        """Start its container."""
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command, env=self.environment, cwd=self.directory, stdout=log, stderr=log, start_new_session=True
            )

    def ready(self) -> bool:
        """Ask as the kubelet's probe does."""
        if self.process is None or self.process.poll() is not None:
            raise AssertionError(f"{self.service} has ended:\n{self.log()}")
        with grpc.insecure_channel(f"{self.host}:7453") as channel, suppress(grpc.RpcError):
            check = channel.unary_unary("/grpc.health.v1.Health/Check")
            return bool(check(b"", timeout=2) == _SERVING)
        return False

    def stop(self) -> None:
        """End as a pod that is deleted: SIGTERM, and nothing is killed within the grace period."""
        assert self.process is not None
        self.process.terminate()
        assert self.process.wait(_GRACE_SECONDS) == 0, self.log()
        self.process = None

    def kill(self) -> None:
        """Kill all its processes, as the end of a container does."""
        mark = f"{_MARK}={self.uid}".encode()
        for environ in Path("/proc").glob("[0-9]*/environ"):
            with suppress(OSError, ProcessLookupError):
                if mark in environ.read_bytes():
                    os.kill(int(environ.parent.name), signal.SIGKILL)
        if self.process is not None:
            self.process.wait(_GRACE_SECONDS)
            self.process = None

    def log(self) -> str:
        """Return the end of its log."""
        return "\n".join((self.directory / "log").read_text().splitlines()[-30:])


@dataclass
class Cluster:
    """The pods of a release, beside a stand-in for the API server."""

    directory: Path
    found: Sequence[Manifest]
    api: ApiServer
    database: str
    """What follows the role in a database's URL."""
    names: Mapping[str, str] = field(default_factory=dict)
    """Addresses for `host:port` of Services."""
    pods: list[Pod] = field(default_factory=list)
    _uids: Iterator[int] = field(default_factory=lambda: count(1))

    def hosts(self, service: str) -> list[str]:
        """The addresses that pods of a service have, in turn."""
        number = SERVICES.index(service) + 1
        return [f"127.77.{number}.{last}" for last in range(1, ADDRESSES + 1)]

    def endpoints(self) -> dict[str, list[str]]:
        """What a name of each headless Service resolves to over time."""
        return {service: [f"{host}:{port}" for host in self.hosts(service)] for service, port in PORTS.items()}

    def replicas(self, service: str) -> list[Pod]:
        """The pods of a service, the oldest first."""
        return [pod for pod in self.pods if pod.service == service]

    def named(self, kind: str, name: str) -> Manifest:
        """The manifest of this kind and name."""
        [found] = [one for one in self.found if (one["kind"], one["metadata"]["name"]) == (kind, f"{PREFIX}-{name}")]
        return found

    def schedule(self, service: str) -> Pod:
        """Make and start a pod of a Deployment."""
        spec = self.named("Deployment", service)["spec"]["template"]["spec"]
        taken = {pod.host for pod in self.pods}
        host = next(one for one in self.hosts(service) if one not in taken)
        uid = str(uuid.uuid4())
        directory = self.directory / f"{service}-{next(self._uids)}"
        directory.mkdir()
        self._mount(service, directory, host)
        [container] = spec["containers"]
        pod = Pod(service, uid, host, directory, *self._command(container, directory, uid))
        self._give_token(pod, spec)
        self.pods.append(pod)
        pod.start()
        return pod

    def schedule_check(self, kind: str, name: str, host: str) -> Pod:
        """Make and start a pod of the chart's test."""
        spec = self.named(kind, name)["spec"]
        spec = spec.get("template", {}).get("spec", spec)
        directory = self.directory / f"{name}-{next(self._uids)}"
        directory.mkdir()
        self._mount("check", directory, "")
        [container] = spec["containers"]
        uid = str(uuid.uuid4())
        command, environment = self._command(container, directory, uid)
        text = "\0".join(command).replace("$(POD_IP)", host)
        for service, address in self.names.items():
            text = text.replace(service, address)
        files = {"account-token": "token", "bundle": "etc/bundle/control.pem"}
        if "array_check" in text:
            files["directory"] = "server"
        own = [f"--{option}={directory / file}" for option, file in files.items()]
        pod = Pod("check", uid, host, directory, [*text.split("\0"), *own], environment)
        self._give_token(pod, spec)
        self.pods.append(pod)
        pod.start()
        return pod

    def execute(self, pod: Pod, command: Sequence[str]) -> str:
        """Run a command in a pod, as `kubectl exec` does, and return what it prints."""
        program, *arguments = (self._at(one, pod.directory) for one in command)
        assert program == "python3"
        done = subprocess.run(
            [sys.executable, *arguments], env=pod.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def remove(self, pod: Pod) -> None:
        """Delete a pod: what it kept in memory is gone."""
        self.pods.remove(pod)
        pod.stop()
        shutil.rmtree(pod.directory / "state")

    def run_job(self, name: str) -> None:
        """Run the containers of a Job, one after the other."""
        directory = self.directory / name
        for container in containers(self.named("Job", name)["spec"]["template"]["spec"]):
            shutil.rmtree(directory, ignore_errors=True)
            self._mount(container["name"].rpartition("-")[2], directory, "")
            command, environment = self._command(container, directory, name)
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr + done.stdout

    def _mount(self, service: str, directory: Path, host: str) -> None:
        """Lay out what the volumes of a pod hold."""
        etc = directory / "etc"
        for name in ("keys", "secrets", "settings", "bundle", "recovery", "urls", "admin", "database"):
            (etc / name).mkdir(parents=True)
        shutil.copytree(self.directory / "keys", etc / "keys", dirs_exist_ok=True)
        shutil.copytree(self.directory / "recovery", etc / "recovery", dirs_exist_ok=True)
        for each in ("ca", "membership", "credentials"):
            (etc / "urls" / each).write_text(self.url(each))
        (etc / "admin" / "url").write_text(f"postgresql://keyreeve@{self.database}")
        if service in PORTS and service != "gateway":
            (etc / "secrets" / "database.url").write_text(self.url(service))
        for secret in (one for name in ("urls", "admin", "secrets") for one in (etc / name).iterdir()):
            secret.chmod(0o600)
        if host:
            for name, text in self.named("ConfigMap", service)["data"].items():
                (etc / "settings" / name).write_text(
                    self._settled(text, directory, host) if name.endswith(".yaml") else text
                )

    def _settled(self, text: str, directory: Path, host: str) -> str:
        """The settings with the addresses and paths of this machine, and the stand-in for the API server."""
        for name, address in self.names.items():
            text = text.replace(name, address)
        settings = yaml.safe_load(self._at(text, directory).replace("0.0.0.0", host))
        access = {
            "api_url": self.api.url,
            "api_ca_file": str(self.api.ca_file),
            "api_token_file": str(self.api.token_file),
        }
        for section in (
            settings.get("bootstrap"),
            settings.get("enroll", {}).get("kubernetes"),
            settings.get("vault", {}).get("secrets"),
        ):
            if section is not None:
                section.update(access)
        if "service_account" in settings:
            settings["service_account"]["token_file"] = str(directory / "token")
        return yaml.safe_dump(settings)

    def url(self, service: str) -> str:
        """The URL of a service's role."""
        return f"postgresql://kr_{service}:of-{service}@{self.database}"

    def _at(self, text: str, directory: Path) -> str:
        return text.replace("/etc/keyreeve/", f"{directory}/etc/").replace("/var/lib/keyreeve/", f"{directory}/state/")

    def _command(self, container: Mapping[str, Any], directory: Path, uid: str) -> tuple[list[str], dict[str, str]]:
        (directory / "state").mkdir(exist_ok=True)
        (directory / "tmp").mkdir(exist_ok=True)
        own = {
            one["name"]: uid if "valueFrom" in one else self._at(one["value"], directory)
            for one in container.get("env", ())
        }
        environment = {name: value for name, value in os.environ.items() if not name.startswith("KEYREEVE_")}
        environment |= own | {_MARK: uid, "TMPDIR": str(directory / "tmp")}
        return [sys.executable, "-P", "-m", *(self._at(one, directory) for one in container["args"])], environment

    def _give_token(self, pod: Pod, spec: Mapping[str, Any]) -> None:
        """Project a token, and the bundle once the CA has published it, as the kubelet does before a container starts."""
        token = f"token-of-{pod.uid}"
        volumes = {volume["name"]: volume for volume in spec["volumes"]}
        for source in volumes["token"]["projected"]["sources"] if "token" in volumes else ():
            account = f"{NAMESPACE}/{spec['serviceAccountName']}"
            audience = source["serviceAccountToken"]["audience"]
            self.api.statuses[token] = status_of(account, audience, pod.uid, str(uuid.uuid4()))
        (pod.directory / "token").write_text(token)
        if pod.service != "ca":
            wait_for("the CA has published its roots", self.bundle)
            (pod.directory / "etc" / "bundle" / "control.pem").write_text(self.bundle())

    def bundle(self) -> str:
        """The roots that the CA has published."""
        found = self.api.objects.get(f"/api/v1/namespaces/{NAMESPACE}/configmaps/{PREFIX}-bundle", {})
        roots: str = found.get("data", {}).get("control.pem", "")
        return roots


@contextmanager
def cluster(directory: Path, found: Sequence[Manifest], api: ApiServer, database: str) -> Iterator[Cluster]:
    """The release's Secrets, objects and Services; every pod that runs at the end is killed."""
    made = Cluster(directory, found, api, database)
    services = {
        f"{PREFIX}-{name}.{NAMESPACE}.svc:{port}": Forwarder([(host, port) for host in made.hosts(service)])
        for name, service, port in [*((each, each, port) for each, port in PORTS.items()), ("enroll", "ca", 7483)]
    }
    for one in found:
        if one["kind"] in {"ConfigMap", "Secret"} and one["metadata"].get("namespace", NAMESPACE) == NAMESPACE:
            kind = f"{one['kind'].lower()}s"
            api.objects[f"/api/v1/namespaces/{NAMESPACE}/{kind}/{one['metadata']['name']}"] = json.loads(
                json.dumps(one)
            )
    with forwarders(list(services.values())) as listening:
        made.names = {name: f"127.0.0.1:{port}" for name, port in zip(services, listening, strict=True)}
        try:
            yield made
        finally:
            for pod in made.pods:
                pod.kill()
