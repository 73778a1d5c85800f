"""Telling local programs of new material, within bounds: one command without a shell, then a look at the port."""

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from keyreeve.errors import ProgramNotReloaded
from keyreeve_agent.material.directory import MaterialDirectory
from keyreeve_agent.material.values import Material
from keyreeve_agent.programs.ports import LocalProgram, Probe
from keyreeve_agent.programs.probing import presented_certificate

_LOOK_SECONDS = 0.1
_AGREEING_LOOKS = 3
"""In a row: old processes of nginx accept connections for a moment after new ones have begun to."""
_MAX_OUTPUT = 4096


@dataclass(frozen=True)
class ProgramReloader:
    """Reloads the programs of the settings."""

    programs: Sequence[LocalProgram]
    present: Callable[[Probe, float], bytes] = presented_certificate
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    async def load(self, material: Material) -> dict[str, str]:
        """Tell every program of the material; return why not, by the name of each program that did not take it."""
        failed = {}
        for program in self.programs:
            try:
                await self._load(program, material)
            except ProgramNotReloaded as failure:
                failed[program.name] = failure.message
        return failed

    async def _load(self, program: LocalProgram, material: Material) -> None:
        if program.directory is not None:
            copy = MaterialDirectory(program.directory, program.owner)
            await asyncio.to_thread(copy.write, material)
        await run_bounded(program.name, program.reload, program.timeout)
        if program.probe is not None:
            await self._wait_for(program, program.probe, material.certificate_der)

    async def _wait_for(self, program: LocalProgram, probe: Probe, certificate_der: bytes) -> None:
        """Wait until the port presents the certificate: a reload command may end before the program has reloaded."""
        ends = self.clock() + program.timeout
        why = "it presents another certificate"
        agreeing = 0
        while (left := ends - self.clock()) > 0:
            try:
                if await asyncio.to_thread(self.present, probe, left) == certificate_der:
                    agreeing += 1
                    if agreeing == _AGREEING_LOOKS:
                        return
                else:
                    why, agreeing = "it presents another certificate", 0
            except (OSError, ValueError) as failure:
                why, agreeing = str(failure), 0
            await self.sleep(_LOOK_SECONDS)
        raise ProgramNotReloaded(f"{program.name} at {probe.address}: {why} after {program.timeout:g} s")


async def run_bounded(name: str, command: Sequence[str], seconds: float) -> bytes:
    """Run a command without a shell and return its output. Raises `ProgramNotReloaded`.

    The command and what it has started are killed when time is up.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as failure:
        raise ProgramNotReloaded(f"{name}: cannot run {command[0]}: {failure.strerror}") from None
    assert process.stdout is not None
    try:
        async with asyncio.timeout(seconds):
            output = await process.stdout.read(_MAX_OUTPUT)
            while await process.stdout.read(_MAX_OUTPUT):
                """The rest is not kept."""
            code = await process.wait()
    except TimeoutError:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # with what it has started: it is the leader of its session
        await process.wait()
        raise ProgramNotReloaded(f"{name}: {command[0]} has not ended after {seconds:g} s") from None
    if code:
        last = output.decode("utf-8", "replace").strip().splitlines()[-1:] or [""]
        raise ProgramNotReloaded(f"{name}: {command[0]} ended with {code}: {last[0][:200]}")
    return output
