"""`python -m keyreeve_bench.simulated_members`: many members in one process, each with a channel and a peer port of its own.

    python -m keyreeve_bench.simulated_members --first 0 --count 250 --context FILE --directory DIRECTORY

Each runs the agent's own loop on its own certificates. They dial no peers: on one machine, that would be all that is
measured. What is so is written to `DIRECTORY/status.json` every second; a line of standard input with a number stops that
member, and the end of standard input stops all.
"""

import argparse
import asyncio
import json
import secrets
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from keyreeve import Context, aio
from keyreeve.enrollment_token import EnrollmentToken
from keyreeve.files import write_atomically
from keyreeve.membership_values import Server
from keyreeve_agent.control.client import SdkControlPlane
from keyreeve_agent.control.service import MemberLoop
from keyreeve_agent.material.directory import MaterialDirectory
from keyreeve_agent.material.roll_file import RollFile
from keyreeve_agent.material.seen_epochs import SeenEpochs
from keyreeve_agent.peers.server import PeerServer
from keyreeve_agent.peers.servicer import PeerServicer
from keyreeve_agent.peers.view import ArrayView
from keyreeve_bench.member_names import RELEASE, address_of, name_of

_ENROLLING_AT_ONCE = 8
_STATUS_SECONDS = 1.0


class NoPeers:
    """Dials nobody."""

    async def dial_all(self, _: object) -> dict[str, Any]:
        """Return no peers."""
        return {}

    async def reach_self(self) -> None:
        """Take the own port as it is."""


class NoPrograms:
    """There are none to reload."""

    async def load(self, _: object) -> dict[str, str]:
        """Return no failures."""
        return {}


async def _no_sessions() -> None:
    """The number of sessions is unknown."""


@dataclass
class SimulatedMembers:
    """The members of this process."""

    admin: Context
    directory: Path
    views: dict[int, ArrayView] = field(default_factory=dict)
    _tasks: "dict[int, asyncio.Task[None]]" = field(default_factory=dict)

    async def start(self, numbers: Sequence[int]) -> None:
        """Enroll them, and begin their loops."""
        limit = asyncio.Semaphore(_ENROLLING_AT_ONCE)
        async with aio.Client(self.admin) as admin:

            async def enroll(number: int) -> Context:
                async with limit:
                    identity = f"spiffe://{self.admin.trust_domain}/members/{name_of(number)}"
                    token = await admin.tokens.create(identity)
                    context = await aio.enroll(EnrollmentToken.parse(token.text), self.directory / name_of(number))
                    return replace(context, endpoints=self.admin.endpoints)

            contexts = await asyncio.gather(*map(enroll, numbers))
        for number, context in zip(numbers, contexts, strict=True):
            self._tasks[number] = asyncio.create_task(self._run(number, context))

    async def stop(self, number: int) -> None:
        """Stop one member, as if its server had died."""
        self.views.pop(number, None)
        task = self._tasks.pop(number, None)
        if task is not None:
            task.cancel()
            await asyncio.wait({task})

    async def _run(self, number: int, context: Context) -> None:
        name, address, place = name_of(number), address_of(number), self.directory / name_of(number)
        view = self.views[number] = ArrayView(name, context.trust_domain, secrets.token_hex(16))
        server = Server(f"members/{name}", address, RELEASE)
        async with aio.Client(context) as client:
            await MemberLoop(
                control=SdkControlPlane(client, server),
                view=view,
                server=server,
                directory=MaterialDirectory(place / "peer"),
                seen=SeenEpochs(place / "epochs.json"),
                roll_file=RollFile(place / "roll.json"),
                port=PeerServer(view, PeerServicer(view), address),
                peers=NoPeers(),
                programs=NoPrograms(),
                sessions=_no_sessions,
            ).run()

    def status(self) -> dict[str, Any]:
        """What is so now."""
        loaded = [view.loaded for view in self.views.values() if view.loaded is not None]
        now = time.time()
        return {
            "running": len(self.views),
            "members_seen": min((len(view.members) for view in self.views.values()), default=0),
            "authorities": Counter(one.material.authority for one in loaded),
            "epochs": Counter(str(one.material.epoch.epoch) for one in loaded),
            "least_seconds_left": min(
                (one.certificate.not_valid_after_utc.timestamp() - now for one in loaded), default=0
            ),
            "problems": Counter(text for view in self.views.values() for text in view.problems.values()).most_common(3),
        }


async def run(context: Path, directory: Path, numbers: Sequence[int]) -> None:
    """Run members until standard input ends."""
    members = SimulatedMembers(Context.load(context), directory)
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)

    async def tell() -> None:
        while True:
            write_atomically(directory / "status.json", json.dumps(members.status()).encode())
            await asyncio.sleep(_STATUS_SECONDS)

    await members.start(numbers)
    telling = asyncio.create_task(tell())
    try:
        while line := await reader.readline():
            await members.stop(int(line))
    finally:
        telling.cancel()
        await asyncio.gather(*(members.stop(number) for number in numbers))


def main(arguments: Sequence[str]) -> int:
    """Run the members and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m keyreeve_bench.simulated_members", description="Run members.")
    parser.add_argument("--first", type=int, required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--context", type=Path, required=True, help="context file of an admin")
    parser.add_argument("--directory", type=Path, required=True)
    given = parser.parse_args(arguments)
    asyncio.run(run(given.context, given.directory, range(given.first, given.first + given.count)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
