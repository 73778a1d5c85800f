"""Carrying out a command line: parse it, open the services, run the verb, turn failures into lines and exit codes."""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from keyreeve.errors import KeyreeveError, MemberNotFound
from keyreeve_gateway.grammar.model import Program, Verb
from keyreeve_gateway.grammar.parsing import Command, HelpRequested, UsageProblem, parse_command
from keyreeve_gateway.grammar.usage import usage_lines
from keyreeve_gateway.invocation import CommandFailed, Invocation
from keyreeve_gateway.ports import Console, Services
from keyreeve_gateway.settings import LegacySettings

if TYPE_CHECKING:
    from keyreeve_gateway.grammar.parsed import Parsed

DONE = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command line has ended, beside its output."""

    code: int
    """The exit code."""
    words: tuple[str, ...] = ()
    """The words of the verb that was carried out; empty: none was."""
    status: str = "OK"
    """Name of the gRPC status code of the last failure."""
    reason: str = ""
    """Its reason, if a service has given one."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a command line is carried out in: a way in makes one for each caller."""

    open_services: Callable[[], AbstractAsyncContextManager[Services]]
    """Called once the command line has been parsed."""
    settings: LegacySettings
    local_server: Callable[[], str]
    """Finds the peer DNS name of "this server"; called once the services are open."""
    now: Callable[[], datetime]


async def run_command(program: Program, argv: Sequence[str], console: Console, surroundings: Surroundings) -> int:
    """Carry out a command line and return its exit code; output and errors have been written."""
    return (await carry_out(program, argv, console, surroundings)).code


async def carry_out(program: Program, argv: Sequence[str], console: Console, surroundings: Surroundings) -> Outcome:
    """Carry out a command line; output and errors have been written."""
    try:
        command = parse_command(program, argv)
        calls = await _calls(command, console)
    except HelpRequested as request:
        for line in usage_lines(program, request.words):
            console.say(line)
        return Outcome(DONE)
    except UsageProblem as problem:
        return Outcome(_refuse_usage(program, argv, str(problem), console, surroundings.settings.usage_code))
    except KeyreeveError as error:
        console.warn(_prefix(program, argv) + error.message)
        return Outcome(surroundings.settings.failed_code)
    prefix = program.failure_prefix or f"{program.name} {' '.join(command.words)}: "
    try:
        async with surroundings.open_services() as services:
            return await _run_all(
                _Named(command.verb, command.words, prefix),
                calls,
                services,
                console,
                surroundings,
            )
    except KeyreeveError as error:  # the context cannot be used
        console.warn(prefix + describe(error))
        return Outcome(surroundings.settings.failed_code)


@dataclass(frozen=True, slots=True)
class _Named:
    """A verb, and what a line about its failure begins with."""

    verb: Verb
    words: tuple[str, ...]
    prefix: str


async def _run_all(
    named: _Named,
    calls: "Sequence[tuple[int, Parsed]]",
    services: Services,
    console: Console,
    surroundings: Surroundings,
) -> Outcome:
    outcome, server, settings = Outcome(DONE, named.words), surroundings.local_server(), surroundings.settings
    found: dict[str, str] = {}
    for number, parsed in calls:
        call = Invocation(parsed, console, services, settings, server, surroundings.now, found)
        try:
            await named.verb.run(call)
        except (CommandFailed, KeyreeveError) as problem:
            text = str(problem)
            if isinstance(problem, KeyreeveError):
                text = describe(problem if settings.server else _explain(problem, server))
            console.warn(named.prefix + (f"line {number}: " if number else "") + text)
            outcome = _failed(problem, named.words, settings)
    return outcome


def _failed(problem: Exception, words: tuple[str, ...], settings: LegacySettings) -> Outcome:
    """The outcome of a verb that has failed."""
    match problem:
        case KeyreeveError():
            return Outcome(settings.failed_code, words, problem.code, problem.metadata.get("reason", problem.reason))
        case _:
            return Outcome(settings.failed_code, words, "FAILED_PRECONDITION")


def _explain(error: KeyreeveError, host: str) -> KeyreeveError:
    """The error, or a better one when it is about this host's own name, which nobody has chosen."""
    if not isinstance(error, MemberNotFound) or error.metadata.get("member", "").casefold() != host.casefold():
        return error
    return MemberNotFound(
        f"this host is called {host!a}, which is no member; name the server to speak for with KEYREEVE_SERVER"
        " (or `server` in legacy.toml)"
    )


def describe(error: KeyreeveError) -> str:
    """An error of a service as one line, with its reason."""
    reason = error.metadata.get("reason", error.reason)
    details = "; ".join(
        f"{one.field}: {one.description}" for one in error.violations if one.description not in error.message
    )
    return f"{error.message}{f' ({details})' if details else ''} [{reason}]"


async def _calls(command: Command, console: Console) -> "list[tuple[int, Parsed]]":
    """The calls of a command line: one, or one for each line of its batch file."""
    if not command.file:
        return [(0, command.parsed)]
    from keyreeve_gateway.grammar.batches import MOST_BYTES, parse_batch

    data = await console.read_file(command.file, MOST_BYTES)
    if len(data) > MOST_BYTES:
        raise UsageProblem(f"the file has more than {MOST_BYTES} bytes")
    return parse_batch(command.verb, data)


def _refuse_usage(program: Program, argv: Sequence[str], problem: str, console: Console, code: int) -> int:
    console.warn(_prefix(program, argv) + problem)
    for line in usage_lines(program, _nearest(program, argv)):
        console.warn(line)
    return code


def _prefix(program: Program, argv: Sequence[str]) -> str:
    return program.failure_prefix or " ".join((program.name, *_nearest(program, argv))) + ": "


def _nearest(program: Program, argv: Sequence[str]) -> tuple[str, ...]:
    """The words at the beginning of a command line that name something."""
    words = argv[1:] if argv[:1] == ["help"] else argv
    if not words:
        return ()
    if program.verb(words[0]) is not None:
        return (words[0],)
    family = program.family(words[0])
    if family is None:
        return ()
    known = len(words) > 1 and family.verb(words[1]) is not None
    return tuple(words[: 2 if known else 1])
