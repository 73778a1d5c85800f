"""`tarantella` and `mmp` as installed commands, with the certificate of the caller's context."""

import os
import sys
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NoReturn

from keyreeve.errors import ContextInvalid
from keyreeve_gateway.dispatch import Surroundings, run_command
from keyreeve_gateway.grammar.completion import bash_script, candidates, variable
from keyreeve_gateway.grammar.model import Program
from keyreeve_gateway.grammar.parsing import HelpRequested, UsageProblem, parse_command
from keyreeve_gateway.ports import Console, Services
from keyreeve_gateway.settings import LegacySettings, load_settings
from keyreeve_gateway.ways.terminal import TerminalConsole

if TYPE_CHECKING:
    from keyreeve.context import Context

INTERRUPTED = 130


def tarantella() -> NoReturn:
    """Run `tarantella` with the arguments of this process."""
    from keyreeve_gateway.tarantella.program import TARANTELLA

    sys.exit(run_here(TARANTELLA, sys.argv[1:]))


def mmp() -> NoReturn:
    """Run `mmp` with the arguments of this process."""
    from keyreeve_gateway.mmp.program import MMP

    sys.exit(run_here(MMP, sys.argv[1:]))


def run_here(program: Program, argv: Sequence[str]) -> int:
    """Carry out a command line in this process; return its exit code."""
    console = TerminalConsole()
    if asked := os.environ.get(variable(program)):
        completed = [bash_script(program)] if asked == "script" else candidates(program, argv)
        sys.stdout.writelines(f"{line}\n" for line in completed)
        return 0
    try:
        if calls_something(program, argv):
            import asyncio

            code = asyncio.run(run_anywhere(program, argv, console))
        else:
            code = run_at_once(run_command(program, argv, console, Here.find().surroundings(console)))
        sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # the reader of the output has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as defect:  # noqa: BLE001 - a traceback would show what the caller typed
        console.warn(f"{program.name}: internal error: {type(defect).__name__}; please report it")
        return 1
    return code


def calls_something(program: Program, argv: Sequence[str]) -> bool:
    """Whether a command line does more than to show a usage text, for which asyncio need not be loaded."""
    try:
        parse_command(program, argv)
    except (HelpRequested, UsageProblem):
        return False
    return True


def run_at_once(work: Coroutine[None, None, int]) -> int:
    """Run what waits for nothing, without an event loop."""
    try:
        work.send(None)
    except StopIteration as done:
        return int(done.value)
    work.close()
    raise RuntimeError("it waits for something")


async def run_anywhere(program: Program, argv: Sequence[str], console: Console) -> int:
    """Carry out a command line: by the gateway that the environment or the context names, or else in this process."""
    from keyreeve_gateway.ways.through_gateway import VARIABLE, context_with_gateway, run_there

    here = Here.find()
    if here.context is not None and here.problem is None:
        try:
            there = context_with_gateway(here.context, os.environ.get(VARIABLE))
        except ContextInvalid as invalid:
            here = replace(here, problem=invalid)
        else:
            if there is not None:
                return await run_there(program, argv, console, there, here.settings)
    return await run_command(program, argv, console, here.surroundings(console))


@dataclass(frozen=True)
class Here:
    """The caller's context and settings; a context is needed by commands that call a service."""

    context: "Context | None"
    settings: LegacySettings
    problem: ContextInvalid | None
    """What is wrong with one of them."""

    @classmethod
    def find(cls) -> "Here":
        """Read them."""
        from keyreeve.context import Context

        problem: ContextInvalid | None = None
        context, settings = None, LegacySettings()
        try:
            context = Context.load()
        except ContextInvalid as invalid:
            problem = invalid
        try:
            settings = load_settings(context.path.parent if context and context.path else None)
        except ContextInvalid as invalid:
            problem = invalid
        return cls(context, settings, problem)

    def surroundings(self, console: Console) -> Surroundings:
        """What a command of this process is carried out in."""
        return Surroundings(
            lambda: self._open_services(console), self.settings, self._find_server, lambda: datetime.now(UTC)
        )

    @asynccontextmanager
    async def _open_services(self, console: Console) -> AsyncIterator[Services]:
        from keyreeve_gateway.ways.own_context import own_client

        if self.context is None or self.problem is not None:
            raise self.problem or ContextInvalid("there is no context")
        async with own_client(self.context, console) as services:
            yield services

    def _find_server(self) -> str:
        from keyreeve_gateway.ways.own_context import local_server

        assert self.context is not None, "services are open"
        return self.settings.server or local_server(self.context, os.uname().nodename)
