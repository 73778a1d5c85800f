"""`python -m keyreeve_bench.vault`: measure a filled vault: put, resolve and list, and re-keying under load.

    python -m keyreeve_bench.vault --entries 20000 [--database postgresql] [--duration 10] [--rekey-seconds 120] [--kills 10]

Starts a control plane in a temporary directory and fills its vault (`keyreeve_bench.vault_fill`). Calls are sent 100 in a
second, whether or not earlier ones have been answered, and their times count from the moment they were due. With kills, the
service, which leads the re-keying, is killed on the way, and every entry is opened after each.
"""

import argparse
import asyncio
import itertools
import json
import random
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, aclosing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from keyreeve import Context, aio
from keyreeve.cli.exit_codes import print_error
from keyreeve.cli.local.starting import bring_up
from keyreeve.cli.local.stopping import take_down
from keyreeve.cli.supervision.local_services import SERVICES, write_config
from keyreeve.cli.supervision.processes import read_pid
from keyreeve.cli.supervision.state_directory import StateDirectory
from keyreeve.cli.supervision.supervisor import pid_file
from keyreeve.errors import KeyreeveError, StartFailed
from keyreeve.launch_values import ApplicationKind, Credential, Launch, ObjectKind
from keyreeve.operation_values import Operation, OperationState
from keyreeve.plaintext import Plaintext
from keyreeve_bench import postgresql
from keyreeve_bench.control_planes import DATABASES
from keyreeve_bench.resolving import resolves_per_second
from keyreeve_bench.scenarios.scenario import Figure, Place, print_report
from keyreeve_bench.settings import BenchSettings
from keyreeve_bench.sign import bench_sign
from keyreeve_bench.vault_kills import Kills
from keyreeve_bench.vault_names import APPLICATION, ARRAY, SERVER, owner_of

_TRUST_DOMAIN = "bench.localhost"
[_SERVICE] = [one for one in SERVICES if one.name == "credentials"]
RATE = 100.0
"""Calls in a second."""
IN_FLIGHT = 64
P99_MS = 10.0
_SETTINGS = """
vault:
  reads_per_second: 1000000
  reads_at_once: 1000000
  unusual_owners: 1000000
"""

Call = Callable[[], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured beside the calls."""

    rekey_seconds: float
    """How long re-keying is measured, at most."""
    kills: int


@contextmanager
def filled(directory: Path, database: str, entries: int) -> Iterator[StateDirectory]:
    """Run a control plane with a filled vault. Raises `keyreeve.errors`."""
    state_directory = StateDirectory.at(directory / ".keyreeve")
    with ExitStack() as stack:
        url = ""
        if database == "postgresql":
            place = directory / "postgresql"
            place.mkdir()
            url = stack.enter_context(postgresql.server(place))
        state_directory.make()
        _fill(state_directory, directory / "fill.yaml", url, entries)
        taken: set[int] = set()
        for one in SERVICES:  # only now: free ports do not stay free while a large vault is filled
            write_config(
                state_directory,
                one,
                trust_domain=_TRUST_DOMAIN,
                first_port=0,
                rng=random.SystemRandom(),
                database=url if one is _SERVICE else "",
                taken=taken,
            )
        config = state_directory.config(_SERVICE.name)
        config.write_text(config.read_text() + _SETTINGS)
        stack.callback(take_down, state_directory)
        bring_up(state_directory, trust_domain=_TRUST_DOMAIN, first_port=0, report=lambda _: None)
        yield state_directory


def _fill(state_directory: StateDirectory, config: Path, database: str, entries: int) -> None:
    """Fill the vault of a control plane that has not been started yet; `config` is written for that."""
    state = state_directory.state(_SERVICE.name)
    state.mkdir(mode=0o700, exist_ok=True)
    url = database or f"sqlite:///{_SERVICE.name}.db"
    settings = {"trust_domain": _TRUST_DOMAIN, "state_directory": str(state), "database": {"url": url}}
    config.write_text(json.dumps(settings))  # JSON is YAML
    config.chmod(0o600)
    program = [sys.executable, "-m", "keyreeve_bench.vault_fill", "--entries", str(entries), "--config", str(config)]
    print_error(f"    {entries:,} synthetic entries are put")
    filling = subprocess.run(program, check=True, capture_output=True)  # noqa: S603
    print_error(f"    in {json.loads(filling.stdout)['seconds']:,.0f} s")


def run(plan: Plan, place: Place) -> tuple[list[Figure], dict[str, Any]]:
    """Measure. Raises `keyreeve.errors`."""
    entries = place.certificates
    with filled(place.directory, place.database, entries) as state_directory:
        found = asyncio.run(_measure(state_directory, entries, place.duration, plan))
        signing = asyncio.run(
            bench_sign(
                replace(
                    BenchSettings(context=str(state_directory.context), duration=place.duration, runs=1),
                    in_flight=IN_FLIGHT,
                    limit_seconds=0.5,
                )
            )
        )
    found["signings_per_second"] = signing["certificates_per_second"]["median"]
    quiet, busy = found["resolve"]["p99"], found["rekeying"]["p99"]
    figures = [
        *(
            Figure(f"{kind}: p99 at 100/s", found[kind]["p99"], "ms", at_most=P99_MS)
            for kind in ("put", "resolve", "list")
        ),
        Figure("resolves, 64 in flight", found["resolves_per_second"], "/s", at_least=found["signings_per_second"]),
        Figure("signings of one certificate, 64 in flight", found["signings_per_second"], "/s"),
        Figure("resolve while re-keying: p99", busy, "ms", at_most=max(2 * quiet, 20.0)),
        Figure("resolve while re-keying: failed", found["rekeying"]["failed"], at_most=0),
        Figure("re-keyed", found["rekeying"]["rows_per_second"], "values/s"),
        Figure("growth of memory while re-keying", found["rekeying"]["grown_mib"], "MiB", at_most=20),
    ]
    if plan.kills:
        killed = found["kills"]
        figures += [
            Figure("kills while re-keying", killed["kills"], at_least=plan.kills),
            Figure("entries that did not open after a kill", killed["failed"], at_most=0),
        ]
    return figures, {"entries": entries, "details": found}


async def _measure(state_directory: StateDirectory, entries: int, duration: float, plan: Plan) -> dict[str, Any]:
    async with aio.Client(Context.load(state_directory.context)) as client:
        vault = client.credentials
        await vault.objects.create(ARRAY, SERVER, ObjectKind.APPLICATION_SERVER)
        await vault.objects.create(ARRAY, APPLICATION, ObjectKind.APPLICATION, application_kind=ApplicationKind.X)
        some, numbers = random.Random(7), itertools.count(entries)  # noqa: S311 - a sample

        async def resolve() -> None:
            launch = Launch(ARRAY, owner_of(some.randrange(entries)), APPLICATION, SERVER)
            answer = await vault.resolution.resolve(launch)
            if not isinstance(answer, Credential):
                raise StartFailed(f"a launch was answered with {answer}")

        async def put() -> None:
            await vault.entries.create(ARRAY, owner_of(next(numbers)), SERVER, "user", Plaintext.of("password"))

        async def a_page() -> None:
            owner = f"o=Bench/ou=Unit 7/cn=Person {some.randrange(entries)}*"
            async for _ in vault.entries.list(ARRAY, owner=".../_ens/" + owner):
                break

        await resolve()
        found: dict[str, Any] = {}
        for kind, call in (("put", put), ("resolve", resolve), ("list", a_page)):
            found[kind] = await _at_rate(call, duration)
        found["resolves_per_second"] = await resolves_per_second(state_directory.context, entries, duration, IN_FLIGHT)
        found["rekeying"] = await _rekey(vault, resolve, plan.rekey_seconds, _pid(state_directory))
        if plan.kills:
            print_error(f"    {plan.kills} kills while re-keying")
            kills = Kills(vault, ARRAY, state_directory.config(_SERVICE.name), partial(_pid, state_directory), resolve)
            found["kills"] = await kills.run(plan.kills)
        for kind in ("put", "resolve", "list", "rekeying"):
            found[kind].pop("all", None)
        return found


async def _rekey(vault: Any, resolve: Call, seconds: float, pid: int) -> dict[str, Any]:  # noqa: ANN401 - the client
    """Re-key the array under a load of resolves, to its end or for so many seconds; then cancel it."""
    before, began = _pss_mib(pid), time.perf_counter()
    operation = await vault.keys.rotate(ARRAY)
    watching = _Watching(operation)
    watched = asyncio.create_task(watching.run(vault))
    under_load: list[float] = []
    failed = 0
    while not watched.done() and time.perf_counter() - began < seconds:
        part = await _at_rate(resolve, 1.0)
        under_load += part["all"]
        failed += part["failed"]
    taken, done = time.perf_counter() - began, watching.last.done
    if not watched.done():
        await vault.operations.cancel(operation.name)
    await watched
    last = watching.last
    if last.state not in {OperationState.SUCCEEDED, OperationState.CANCELLED}:
        raise StartFailed(f"re-keying ended as {last.state}: {last.error_message}")
    return {
        **_quantiles(under_load),
        "failed": failed,
        "seconds": round(taken, 1),
        "rekeyed": done,
        "rows_per_second": round(done / taken, 1),
        "grown_mib": round(_pss_mib(pid) - before, 1),
    }


@dataclass
class _Watching:
    """The operation as it was last heard of."""

    last: Operation

    async def run(self, vault: Any) -> None:  # noqa: ANN401 - the client
        """Watch it to its end."""
        async with aclosing(vault.operations.watch(self.last.name)) as heard:
            async for operation in heard:
                self.last = operation


def _pid(state_directory: StateDirectory) -> int:
    pid = read_pid(pid_file(state_directory, _SERVICE))
    if pid is None:
        raise StartFailed("the credentials service does not run")
    return pid


async def _at_rate(call: Call, duration: float) -> dict[str, Any]:
    """Send calls at the rate; times in milliseconds from the moment that each was due."""
    taken: list[float] = []
    failed = 0
    began = time.perf_counter()

    async def one(due: float) -> None:
        nonlocal failed
        try:
            await call()
            taken.append((time.perf_counter() - due) * 1e3)
        except KeyreeveError:
            failed += 1

    async with asyncio.TaskGroup() as group:
        for number in range(int(duration * RATE)):
            due = began + number / RATE
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            group.create_task(one(due))
    return {**_quantiles(taken), "failed": failed, "all": taken}


def _quantiles(taken: Sequence[float]) -> dict[str, Any]:
    if not taken:
        return {"p50": 0.0, "p99": 0.0, "calls": 0}
    ordered = sorted(taken)
    return {
        "p50": round(ordered[len(ordered) // 2], 2),
        "p99": round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))], 2),
        "calls": len(ordered),
    }


def _pss_mib(pid: int) -> float:
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text("ascii").splitlines()
    return sum(int(line.split()[1]) for line in rollup if line.startswith("Pss:")) / 1024


def main(arguments: Sequence[str]) -> int:
    """Measure, print one JSON object and return the exit code: 1 when a target is missed."""
    parser = argparse.ArgumentParser(prog="python -m keyreeve_bench.vault", description="Measure a filled vault.")
    parser.add_argument("--entries", type=int, default=20_000)
    parser.add_argument("--database", choices=DATABASES, default="sqlite")
    parser.add_argument("--duration", type=float, default=10.0, help="seconds of each run")
    parser.add_argument("--rekey-seconds", type=float, default=120.0, help="re-keying is measured for so long at most")
    parser.add_argument("--kills", type=int, default=0, help="kill the service so often while it re-keys")
    given = parser.parse_args(arguments)
    plan = Plan(given.rekey_seconds, given.kills)
    return print_report("vault", given.database, given.duration, given.entries, partial(run, plan))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
