"""The first step of starting a service other than the CA.

It waits for the CA, gets an enrollment token if the service needs one, and becomes the service.

    python -m keyreeve.cli.supervision.service_launcher DIRECTORY NAME CA_MODULE PROGRAM...

It keeps its process id when it becomes the program, so that the supervisor watches one process.
"""

import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

from keyreeve.cli.local.health import is_listening, is_serving
from keyreeve.cli.supervision.local_services import Addresses, Service, read_addresses, read_config
from keyreeve.cli.supervision.service_program import NotThereYet, ask
from keyreeve.cli.supervision.state_directory import StateDirectory, write_file
from keyreeve.errors import KeyreeveError, StartFailed
from keyreeve.files import PRIVATE
from keyreeve.service_files import needs_token, token_file

CA_SECONDS = 60.0
"""How long a service that needs a token waits for the CA; then its start has failed, and is repeated."""
PATIENCE_SECONDS = 10.0
"""How long a service with a good certificate waits for the CA; then it starts without it."""
POLL_SECONDS = 0.05
DEFAULT_INSTANCE = "local"


@dataclass(frozen=True)
class Launcher:
    """What has to be true before the program of one service begins."""

    state_directory: StateDirectory
    name: str
    ca: Service
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    clock: Callable[[], float] = time.monotonic

    def prepare(self) -> None:
        """Wait for the CA, and write a token if the service needs one.

        Raises `StartFailed`.
        """
        state = self.state_directory.state(self.name)
        addresses = read_addresses(self.state_directory, self.ca)
        if needs_token(state, self.now()):
            self._wait_for(addresses, CA_SECONDS)
            write_file(token_file(state), f"{self._new_token()}\n".encode(), mode=PRIVATE)
            _log(f"{self.name}: it has no valid certificate, and has got an enrollment token")
            return
        try:
            self._wait_for(addresses, PATIENCE_SECONDS)
        except StartFailed as failure:
            _log(f"{self.name}: starting without the CA ({failure.message})")

    def _wait_for(self, ca: Addresses, seconds: float) -> None:
        until = self.clock() + seconds
        # The connection is tried first, since asking imports gRPC while the CA needs the processor to start.
        while not (is_listening(ca) and is_serving(ca)):
            if self.clock() > until:
                raise StartFailed(f"the CA does not serve after {seconds:g} s")
            time.sleep(POLL_SECONDS)

    def _new_token(self) -> str:
        config = self.state_directory.config(self.name)
        instance = str(read_config(config).get("instance", DEFAULT_INSTANCE))
        arguments = ("--service", self.name, "--instance", instance)
        try:
            made = ask("service-token", self.state_directory.config(self.ca.name), *arguments, module=self.ca.module)
        except NotThereYet:
            raise StartFailed("the CA's local socket does not answer") from None
        return str(made["token"])


def _log(line: str) -> None:
    print(datetime.now(UTC).isoformat(timespec="milliseconds"), line, flush=True)  # noqa: T201


def main(arguments: Sequence[str]) -> NoReturn:
    """Prepare the start of a service, then become its program.

    Exit code 1 when that fails.
    """
    directory, name, ca_module, *program = arguments
    try:
        Launcher(StateDirectory(Path(directory)), name, Service("ca", ca_module, 0)).prepare()
    except KeyreeveError as failure:
        _log(f"{name}: not started: {failure.message}")
        sys.exit(1)
    os.execv(program[0], program)  # noqa: S606 (the program that the supervisor named; no shell)


if __name__ == "__main__":
    main(sys.argv[1:])
