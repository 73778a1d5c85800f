"""The cluster that KUBECONFIG names, by kubectl."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

SECONDS = 180


class StepFailed(Exception):
    """A step of the end-to-end test failed."""


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def wait_for(what: str, look: Callable[[], object], seconds: float = SECONDS) -> float:
    """Wait until something is so; return after how many seconds."""
    started = time.monotonic()
    while not look():
        if time.monotonic() - started > seconds:
            raise StepFailed(f"not within {seconds} s: {what}")
        time.sleep(0.5)
    took = time.monotonic() - started
    say(f"{what}: after {took:.1f} s")
    return took


@dataclass(frozen=True)
class Namespace:
    """One namespace."""

    name: str

    def kubectl(self, *arguments: str, given: str | None = None, check: bool = True) -> str:
        """Run kubectl in the namespace and return its output."""
        command = ["kubectl", "--namespace", self.name, *arguments]
        done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
        if check and done.returncode:
            raise StepFailed(f"kubectl {' '.join(arguments)}: {done.stderr}{done.stdout}")
        return done.stdout

    def apply(self, *manifests: Mapping[str, Any]) -> None:
        """Apply manifests."""
        self.kubectl("apply", "-f", "-", given="\n---\n".join(json.dumps(one) for one in manifests))

    def secret(self, name: str, data: Mapping[str, str | bytes]) -> None:
        """Make a Secret."""
        import base64

        encoded = {
            key: base64.b64encode(value.encode() if isinstance(value, str) else value).decode()
            for key, value in data.items()
        }
        self.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": encoded})

    def pods(self, selector: str) -> Sequence[Mapping[str, Any]]:
        """The pods that are there and not being deleted."""
        found = json.loads(self.kubectl("get", "pods", "-l", selector, "-o", "json"))
        return [pod for pod in found["items"] if "deletionTimestamp" not in pod["metadata"]]

    def ready(self, selector: str, count: int) -> bool:
        """Whether so many pods are there, and all ready."""
        pods = self.pods(selector)
        return len(pods) == count and all(is_ready(pod) for pod in pods)

    def execute(self, pod: str, *command: str, given: str | None = None) -> str:
        """Run a command in a pod."""
        return self.kubectl("exec", "-i", pod, "--", *command, given=given)


def is_ready(pod: Mapping[str, Any]) -> bool:
    """Whether the pod says that it is ready."""
    conditions = pod["status"].get("conditions", ())
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def seconds_to_ready(pod: Mapping[str, Any]) -> float:
    """How long after the start of its container a pod was ready; Kubernetes tells whole seconds."""
    [container] = pod["status"]["containerStatuses"]
    [ready] = [one for one in pod["status"]["conditions"] if one["type"] == "Ready"]
    started = datetime.fromisoformat(container["state"]["running"]["startedAt"])
    return (datetime.fromisoformat(ready["lastTransitionTime"]) - started).total_seconds()


def restricted(
    containers: Sequence[Mapping[str, Any]], volumes: Sequence[Mapping[str, Any]], *, user: int = 65532, **more: Any
) -> dict[str, Any]:
    """The spec of a pod that the standard `restricted` accepts."""
    security = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    return {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": user,
            "runAsGroup": user,
            "fsGroup": user,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [{"securityContext": security, **one} for one in containers],
        "volumes": list(volumes),
        **more,
    }
