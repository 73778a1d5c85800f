"""`tarantella` and `mmp` as installed commands, in process, with the certificate of the caller's context."""

import os
import sys
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import NoReturn

from keyreeve.errors import ContextInvalid
from keyreeve_gateway.dispatch import Surroundings, run_command
from keyreeve_gateway.grammar.model import Program
from keyreeve_gateway.grammar.parsing import HelpRequested, UsageProblem, parse_command
from keyreeve_gateway.ports import Console, Services
from keyreeve_gateway.settings import LegacySettings, load_settings
from keyreeve_gateway.ways.terminal import TerminalConsole

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
    try:
        work = run_command(program, argv, console, surroundings_here(console))
        if calls_something(program, argv):
            import asyncio

            code = asyncio.run(work)
        else:
            code = run_at_once(work)
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


def surroundings_here(console: Console) -> Surroundings:
    """What a command of this process is carried out in; a context is needed by commands that call a service."""
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

    @asynccontextmanager
    async def open_services() -> AsyncIterator[Services]:
        from keyreeve_gateway.ways.own_context import own_services

        if context is None or problem is not None:
            raise problem or ContextInvalid("there is no context")
        async with own_services(context, console) as services:
            yield services

    def find_server() -> str:
        from keyreeve_gateway.ways.own_context import local_server

        assert context is not None, "services are open"
        return settings.server or local_server(context, os.uname().nodename)

    return Surroundings(open_services, settings, find_server, lambda: datetime.now(UTC))
