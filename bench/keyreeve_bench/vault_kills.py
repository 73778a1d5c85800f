"""kill -9 of the credentials service while it re-keys an array; after each kill every entry opens."""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keyreeve.cli.exit_codes import print_error
from keyreeve.errors import KeyreeveError, StartFailed

_STARTS_SECONDS = 120.0
_PAUSE_SECONDS = 0.25


@dataclass(frozen=True)
class Kills:
    """Kills the process that leads the sweep."""

    vault: Any
    """The client's vault."""
    array: str
    config: Path
    """Settings file of the service."""
    pid: Callable[[], int]
    """The service's process; raises `StartFailed` while there is none."""
    resolve: Callable[[], Awaitable[object]]

    async def run(self, kills: int) -> dict[str, Any]:
        """Kill it so often, and open all entries after each. Raises `StartFailed`, `keyreeve.errors`."""
        opened = failed = 0
        for number in range(1, kills + 1):
            operation = await self.vault.keys.rotate(self.array)  # the one that runs, if there is one
            await self._moves(operation.name, operation.done)
            os.kill(self.pid(), signal.SIGKILL)
            found = await self._open_all()
            opened += found["entries"]
            failed += found["failed"]
            await self._serves_again()
            print_error(f"    kill {number}: {found['entries']:,} entries, {found['failed']} do not open")
        return {"kills": kills, "opened": opened, "failed": failed}

    async def _moves(self, name: str, before: int) -> None:
        """Wait until more values have been re-encrypted."""
        async with aclosing(self.vault.operations.watch(name)) as heard:
            async for operation in heard:
                if operation.done > before:
                    return

    async def _open_all(self) -> dict[str, Any]:
        command = ("-m", "keyreeve_bench.vault_opening", "--config", str(self.config))
        process = await asyncio.create_subprocess_exec(sys.executable, *command, stdout=asyncio.subprocess.PIPE)
        output, _ = await process.communicate()
        if not output:
            raise StartFailed(f"the entries could not be read: exit code {process.returncode}")
        found: dict[str, Any] = json.loads(output)
        return found

    async def _serves_again(self) -> None:
        until = time.monotonic() + _STARTS_SECONDS
        while True:
            try:
                await self.resolve()
            except KeyreeveError:
                if time.monotonic() > until:
                    raise
                await asyncio.sleep(_PAUSE_SECONDS)
            else:
                return
