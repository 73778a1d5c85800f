"""Runs in a pod: signs, resolves, enrolls and joins through the SDK until a file appears, and prints what happened as JSON."""

import argparse
import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from keyreeve import Context, aio
from keyreeve.errors import KeyreeveError, Unavailable, ViewsDisagree
from keyreeve.keys import make_csr, make_key
from keyreeve.launch_values import Launch
from keyreeve.operation_values import Operation, OperationState
from keyreeve.retry import RetryPolicy
from keyreeve.values import Name

PAUSE = 0.05
TIMEOUT = 60.0
ENROLLED = "load-{number}.members.test"


@dataclass
class Done:
    """What one kind of call did."""

    succeeded: int = 0
    longest: float = 0.0
    failures: Counter[str] = field(default_factory=Counter)

    def as_dict(self) -> dict[str, object]:
        return {"succeeded": self.succeeded, "longest": round(self.longest, 2), "failures": dict(self.failures)}


async def repeat(done: Done, stop: Path, call: Callable[[int], Awaitable[object]]) -> None:
    """Call again and again until the file is there."""
    number = 0
    while not await asyncio.to_thread(stop.exists):
        number += 1
        started = time.monotonic()
        try:
            await call(number)
            done.succeeded += 1
        except KeyreeveError as failure:
            done.failures[f"{failure.reason}: {failure.message}"] += 1
        done.longest = max(done.longest, time.monotonic() - started)
        await asyncio.sleep(PAUSE)


async def enroll_member(client: aio.Client, directory: Path, number: int) -> None:
    """Make a token and enroll with it; the key on disk makes a repeat idempotent."""
    trust_domain = client.context.trust_domain
    made = await client.tokens.create(
        f"spiffe://{trust_domain}/members/{ENROLLED.format(number=number)}", timeout=TIMEOUT
    )
    until = time.monotonic() + TIMEOUT
    while True:
        try:
            await aio.enroll(made.text, directory / str(number), timeout=TIMEOUT)
        except Unavailable:
            if time.monotonic() > until:
                raise
            await asyncio.sleep(1)
        else:
            return


async def join_again(client: aio.Client, primary: str, secondary: str) -> None:
    """Detach a server from its array and join it again."""
    arrays = client.membership.arrays
    await ended(client, await arrays.detach(secondary, timeout=TIMEOUT))
    [array] = [one async for one in arrays.list(timeout=TIMEOUT) if one.primary == f"members/{primary}"]
    until = time.monotonic() + TIMEOUT
    while True:
        try:
            begun = await arrays.join(primary, secondary, accepted_sha256=array.authority_sha256, timeout=TIMEOUT)
        except ViewsDisagree:  # until the server has reported that it stands alone
            if time.monotonic() > until:
                raise
            await asyncio.sleep(0.5)
        else:
            return await ended(client, begun)


async def ended(client: aio.Client, operation: Operation) -> None:
    """Wait until an operation has ended well. Raises `KeyreeveError`."""
    async for last in client.membership.operations.watch(operation.name):
        operation = last
    if operation.state is not OperationState.SUCCEEDED:
        raise KeyreeveError(f"{operation.name} has failed: {operation.error_reason} {operation.error_message}")


async def run(context: Context, stop: Path, launch: Launch, directory: Path, members: Sequence[str]) -> dict[str, Done]:
    """Make the four kinds of calls at once."""
    kinds = {"sign": Done(), "resolve": Done(), "enroll": Done(), "join": Done()}
    csr = make_csr(make_key(), [Name.dns("load.example.test")])
    # Until its time is up: pods are killed faster than the six attempts of the default policy.
    async with aio.Client(context, retry=RetryPolicy(attempts=100)) as client:
        await asyncio.gather(
            *(
                repeat(kinds["sign"], stop, lambda _: client.certificates.sign("server", csr, timeout=TIMEOUT))
                for _ in range(2)
            ),
            repeat(kinds["resolve"], stop, lambda _: client.credentials.resolution.resolve(launch, timeout=TIMEOUT)),
            repeat(kinds["enroll"], stop, lambda number: enroll_member(client, directory, number)),
            repeat(kinds["join"], stop, lambda _: join_again(client, *members)),
        )
    return kinds


def main() -> int:
    """Run, and print the outcome."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--context", type=Path, required=True)
    parser.add_argument("--stop", type=Path, required=True)
    parser.add_argument("--array", required=True)
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--members", nargs=2, required=True, help="the primary and the secondary of an array")
    given = parser.parse_args()
    given.directory.mkdir(exist_ok=True)
    launch = Launch(given.array, "o=Indigo/cn=Ada", "o=Indigo/cn=Word", "o=Indigo/cn=prague")
    kinds = asyncio.run(run(Context.load(given.context), given.stop, launch, given.directory, given.members))
    sys.stdout.write(json.dumps({name: done.as_dict() for name, done in kinds.items()}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
