"""`python -m keyreeve_bench.verbs`: what a legacy verb costs over the RPCs that it becomes.

    python -m keyreeve_bench.verbs [--times 100]

Starts a control plane with all services in a temporary directory. Each verb is carried out in this process and through the
gateway, each time over open connections and over new ones, and its RPCs are called alone over open connections. Differences
of medians are reported; the start of a process is no part of them.
"""

import argparse
import asyncio
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from keyreeve import Context, aio
from keyreeve.cli.exit_codes import print_error
from keyreeve.cli.local.starting import bring_up
from keyreeve.cli.local.stopping import take_down
from keyreeve.cli.supervision.state_directory import StateDirectory
from keyreeve.errors import StartFailed
from keyreeve.file_values import FileSpace
from keyreeve.legacy_values import LegacyCommandLine
from keyreeve.membership_values import Server
from keyreeve.plaintext import Plaintext
from keyreeve_bench.scenarios.scenario import Figure, Place, print_report
from keyreeve_gateway.dispatch import Surroundings, run_command
from keyreeve_gateway.grammar.model import Program
from keyreeve_gateway.mmp.program import MMP
from keyreeve_gateway.settings import LegacySettings
from keyreeve_gateway.tarantella.program import TARANTELLA
from keyreeve_gateway.ways.own_context import own_client

MOST_MS = 30.0
SERVER = "bench-1.example.test"
PASSWORD = b"a password"


class SilentConsole:
    """A console that shows nothing and answers with one password."""

    interactive = False

    def say(self, line: str = "") -> None:
        """Show nothing."""

    def warn(self, line: str) -> None:
        """Show a failure."""
        print_error(line)

    async def ask(self, prompt: str) -> str | None:  # noqa: ARG002 - as consoles have it
        """Answer nothing."""
        return None

    async def ask_secret(self, prompt: str) -> Plaintext | None:  # noqa: ARG002 - as consoles have it
        """Answer the password."""
        return Plaintext(PASSWORD)

    async def read_file(self, name: str, limit: int) -> bytes:  # noqa: ARG002 - as consoles have it
        """Read nothing."""
        return b""


@dataclass(frozen=True)
class MeasuredVerb:
    """A verb, and the calls that it becomes."""

    program: Program
    argv: Sequence[str]
    """`{}` stands for a number that is used once."""
    calls: Callable[[aio.Client, str, int], Awaitable[object]]
    """Of a client, with the name of the array and a number."""

    @property
    def name(self) -> str:
        """Its words."""
        return " ".join((self.program.name, *self.argv[:2]))

    def arguments(self, number: int) -> list[str]:
        """The command line of a run."""
        return [word.format(number) for word in self.argv]


async def _files(client: aio.Client, array: str, _number: int) -> None:
    await client.membership.members.get(SERVER)
    async for _ in client.credentials.files.list(FileSpace(array, SERVER)):
        pass


async def _members(client: aio.Client, array: str, _number: int) -> None:
    await client.membership.members.get(SERVER)
    async for _ in client.membership.members.list(array=array):
        pass


async def _new(client: aio.Client, array: str, number: int) -> None:
    await client.membership.members.get(SERVER)
    resource = f".../_dns/host-{number}"
    await client.credentials.entries.create(array, ".../_user/bench", resource, "guest", Plaintext(PASSWORD))


VERBS = (
    MeasuredVerb(MMP, ("pki", "list"), _files),
    MeasuredVerb(TARANTELLA, ("array", "list"), _members),
    MeasuredVerb(
        TARANTELLA,
        ("passcache", "new", "--person", ".../_user/bench", "--resource", ".../_dns/host-{}", "--resuser", "guest"),
        _new,
    ),
)


def run(place: Place, times: int) -> tuple[list[Figure], dict[str, Any]]:
    """Measure. Raises `keyreeve.errors`."""
    state_directory = StateDirectory.at(place.directory / ".keyreeve")
    try:
        bring_up(state_directory, trust_domain="bench.localhost", first_port=0, report=lambda _: None)
        found = asyncio.run(_measure(Context.load(state_directory.context), times))
    finally:
        take_down(state_directory)
    figures = [
        Figure(f"{verb}, {way}: over its RPCs", round(taken[way] - taken["its RPCs"], 1), "ms", at_most=MOST_MS)
        for verb, taken in found.items()
        for way in taken
        if way != "its RPCs"
    ]
    return figures, {"medians_ms": found}


async def _measure(context: Context, times: int) -> dict[str, dict[str, float]]:
    async with aio.Client(context) as client:
        array = (await client.membership.arrays.create(Server(SERVER, "127.0.0.1:5427", "1.0"))).name.partition("/")[2]

        @asynccontextmanager
        async def new_client() -> AsyncIterator[aio.Client]:
            async with own_client(context, SilentConsole()) as made:
                yield made

        def open_client() -> AbstractAsyncContextManager[aio.Client]:
            return nullcontext(client)

        numbers = iter(range(sys.maxsize))
        found: dict[str, dict[str, float]] = {}
        for verb in VERBS:
            ways: dict[str, Callable[[int], Awaitable[object]]] = {
                "its RPCs": partial(verb.calls, client, array),
                "in process": partial(_here, verb, open_client),
                "in process, new connections": partial(_here, verb, new_client),
                "through the gateway": partial(_there, verb, open_client),
                "through the gateway, new connections": partial(_there, verb, new_client),
            }
            taken: dict[str, list[float]] = {way: [] for way in ways}
            for turn in range(times + 1):
                for way, carry_out in ways.items():
                    began = time.perf_counter()
                    await carry_out(next(numbers))
                    if turn:  # the first opens connections, and loads modules
                        taken[way].append((time.perf_counter() - began) * 1e3)
            found[verb.name] = {way: round(statistics.median(each), 2) for way, each in taken.items()}
    return found


async def _here(
    verb: MeasuredVerb, services: Callable[[], AbstractAsyncContextManager[aio.Client]], number: int
) -> None:
    surroundings = Surroundings(services, LegacySettings(), lambda: SERVER, lambda: datetime.now(UTC))
    _succeeded(verb, await run_command(verb.program, verb.arguments(number), SilentConsole(), surroundings))


async def _there(
    verb: MeasuredVerb, services: Callable[[], AbstractAsyncContextManager[aio.Client]], number: int
) -> None:
    line = LegacyCommandLine(verb.program.name, verb.arguments(number), {"HOSTNAME": SERVER})
    async with services() as client:
        _succeeded(verb, await client.gateway.commands.execute(line, SilentConsole()))


def _succeeded(verb: MeasuredVerb, code: int) -> None:
    if code:
        raise StartFailed(f"{verb.name} has failed")


def main(arguments: Sequence[str]) -> int:
    """Measure, print one JSON object and return the exit code: 1 when a target is missed."""
    parser = argparse.ArgumentParser(prog="python -m keyreeve_bench.verbs", description="Measure legacy verbs.")
    parser.add_argument("--times", type=int, default=100, help="runs of each verb by each way")
    given = parser.parse_args(arguments)
    return print_report("verbs", "sqlite", 0.0, 0, lambda place: run(place, given.times))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
