"""What the fakes of local services share: settings, a journal of what happened, and the health service."""

import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import yaml

HEALTH = "grpc.health.v1.Health"
SERVING = b"\x08\x01"


@dataclass(frozen=True)
class FakeService:
    """One process of a fake: `name` is the stem of its settings file."""

    config: Path

    @property
    def name(self) -> str:
        return self.config.stem

    @property
    def settings(self) -> Any:
        return yaml.safe_load(self.config.read_text())

    @property
    def state(self) -> Path:
        return Path(self.settings["state_directory"])

    def note(self, event: str) -> None:
        """Append a line to the journal of the control plane, which all its fakes share."""
        with journal_file(self.config.parent).open("a") as journal:
            journal.write(f"{self.name} {event}\n")

    def serve(self) -> None:
        """Answer that it serves, until SIGTERM."""
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        check = grpc.unary_unary_rpc_method_handler(lambda _request, _context: SERVING)
        server = grpc.server(ThreadPoolExecutor(2))
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(HEALTH, {"Check": check}),))
        server.add_insecure_port(f"127.0.0.1:{self.settings['listen']['health_port']}")
        server.start()
        self.note("serves")
        signal.sigwait({signal.SIGTERM})
        server.stop(grace=0).wait(5)
        self.note("stopped")


def journal_file(root: Path) -> Path:
    return root / "journal"


def journal(root: Path) -> list[str]:
    """What has happened so far, in order."""
    return journal_file(root).read_text().splitlines() if journal_file(root).exists() else []
