"""Agents on this machine, each a process on a loopback address of its own."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from keyreeve.errors import StartFailed

RELEASE = "1.0"
STOP_SECONDS = 10.0
_POLL_SECONDS = 0.05


@dataclass
class LocalAgent:
    """The agent of one server."""

    name: str
    """The server's peer DNS name."""
    address: str
    directory: Path
    _process: "subprocess.Popen[bytes] | None" = field(default=None)

    @property
    def material(self) -> Path:
        """The link to the present certificate, key and bundle."""
        return self.directory / "state" / "peer" / "current"

    @property
    def control(self) -> Path:
        """The directory of the control certificate."""
        return self.directory / "state" / "control"

    @property
    def status(self) -> Mapping[str, Any]:
        """What the agent sees; empty before it has written anything."""
        try:
            found: dict[str, Any] = json.loads((self.directory / "state" / "status.json").read_bytes())
        except (OSError, ValueError):
            return {}
        return found

    @property
    def pid(self) -> int:
        """The process id of the running agent."""
        assert self._process is not None, "it has been started"
        return self._process.pid

    def configure(self, endpoints: Mapping[str, Sequence[str]]) -> None:
        """Write the settings file."""
        self.directory.mkdir(mode=0o700)
        settings = {
            "address": self.address,
            "state_directory": "state",
            "release": RELEASE,
            "endpoints": {service: list(addresses) for service, addresses in endpoints.items()},
        }
        (self.directory / "agent.yaml").write_text(json.dumps(settings))  # JSON is YAML

    def enroll(self, token: str) -> None:
        """Get the control certificate. Raises `StartFailed`."""
        self._run("enroll", "--token", "-", given=token)

    def leave(self) -> None:
        """Give up the identity; the agent does not run, and its server stands alone. Raises `StartFailed`."""
        self._run("leave", "--yes")

    def start(self) -> None:
        """Run the agent in the background; its log is in its directory."""
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603
                [*self._command(), "run"], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def wait_for(self, what: str, seen: Callable[[Mapping[str, Any]], bool], seconds: float = 30.0) -> None:
        """Wait until the status is as wanted. Raises `StartFailed` with the end of the log."""
        until = time.monotonic() + seconds
        while not seen(self.status):
            if time.monotonic() > until or (self._process is not None and self._process.poll() is not None):
                log = (self.directory / "log").read_text(errors="replace").splitlines()[-5:]
                raise StartFailed("\n".join([f"{self.name}: not within {seconds:g} s: {what}", *log]))
            time.sleep(_POLL_SECONDS)

    def check(self, peer: str) -> tuple[bool, str]:
        """Dial a member as `keyreeve-agent check`; whether it answered, and what was printed."""
        done = subprocess.run([*self._command(), "check", peer], capture_output=True, check=False)  # noqa: S603
        return done.returncode == 0, (done.stdout or done.stderr).decode(errors="replace").strip()

    def kill(self) -> None:
        """Kill the agent."""
        os.kill(self.pid, signal.SIGKILL)
        assert self._process is not None, "it has been started"
        self._process.wait(STOP_SECONDS)

    def stop(self) -> None:
        """Stop the agent, if it runs."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
            return
        process.kill()
        process.wait()

    def _run(self, *arguments: str, given: str = "") -> None:
        done = subprocess.run(  # noqa: S603 - this interpreter, and arguments that are ours
            [*self._command(), *arguments], input=given.encode(), capture_output=True, check=False
        )
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip()
            raise StartFailed(f"{self.name} could not {arguments[0]}: {said}")

    def _command(self) -> list[str]:
        return [sys.executable, "-P", "-m", "keyreeve_agent", "--config", str(self.directory / "agent.yaml")]


def free_address(host: str) -> str:
    """A `host:port` on which nothing listens now."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return f"{host}:{probe.getsockname()[1]}"
