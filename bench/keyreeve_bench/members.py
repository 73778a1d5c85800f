"""`python -m keyreeve_bench.members`: an array of many members through a forced promotion; `keyreeve bench members` runs it.

    python -m keyreeve_bench.members --members 500 --compare 100 [--database postgresql]

Starts a control plane in a temporary directory, fills an array (`keyreeve_bench.member_fill`), and runs its members in two
processes (`keyreeve_bench.simulated_members`): each has channels and a peer port of its own. The primary dies, another member
is promoted, and the dead one is quarantined by name. CPU time is that of the membership service.
"""

import argparse
import json
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from keyreeve import Client, Context
from keyreeve.cli.exit_codes import print_error
from keyreeve.cli.local.starting import bring_up
from keyreeve.cli.local.stopping import take_down
from keyreeve.cli.supervision.local_services import SERVICES, Service, write_config
from keyreeve.cli.supervision.processes import read_pid
from keyreeve.cli.supervision.state_directory import StateDirectory
from keyreeve.cli.supervision.supervisor import pid_file
from keyreeve.errors import DeadlinePassed, StartFailed, Unavailable, ViewsDisagree
from keyreeve.membership_values import Rotation, Server
from keyreeve.operation_values import OperationState
from keyreeve_bench import postgresql
from keyreeve_bench.control_planes import DATABASES
from keyreeve_bench.local_processes import Group, Usage
from keyreeve_bench.member_names import ARRAY, RELEASE, address_of, name_of
from keyreeve_bench.scenarios.scenario import Figure, Place, print_report

PROCESSES = 2
REPORT_SECONDS = 30
"""Interval of reports, as the service's own setting has it."""
GROWTH = 1.5
"""How much more CPU a member may cost in the larger array than in the smaller one."""
_SETTINGS = f"""
roll:
  report_seconds: {REPORT_SECONDS}
  lost_seconds: 600
"""
_LONGEST = 900.0
_MIB = 1024 * 1024


@dataclass
class Members:
    """The processes of the simulated members."""

    processes: "list[subprocess.Popen[bytes]]"
    directories: list[Path]
    share: int
    """Members in each process."""

    def status(self) -> dict[str, Any]:
        """What all of them say, added up."""
        told = [json.loads((place / "status.json").read_bytes()) for place in self.directories]
        counted: dict[str, Counter[str]] = {"authorities": Counter(), "epochs": Counter()}
        for one in told:
            for key, counter in counted.items():
                counter.update(one[key])
        return {
            "running": sum(one["running"] for one in told),
            "members_seen": min(one["members_seen"] for one in told),
            "least_seconds_left": min(one["least_seconds_left"] for one in told),
            "problems": [problem for one in told for problem in one["problems"]],
            **counted,
        }

    def stop_member(self, number: int) -> None:
        """Stop one member, as if its server had died."""
        pipe = self.processes[number // self.share].stdin
        assert pipe is not None
        pipe.write(f"{number}\n".encode())
        pipe.flush()

    def usage(self) -> float:
        """CPU seconds of the members so far."""
        return sum(Group(process.pid).usage().cpu_seconds for process in self.processes)


@contextmanager
def simulated(context: Path, directory: Path, count: int, log: IO[bytes]) -> Iterator[Members]:
    """Run members until the block ends."""
    share = -(-count // PROCESSES)
    places = [directory / f"members-{number}" for number in range(PROCESSES)]
    processes = []
    for number, place in enumerate(places):
        place.mkdir()
        first = number * share
        program = [sys.executable, "-P", "-m", "keyreeve_bench.simulated_members", "--first", str(first)]
        program += ["--count", str(min(share, count - first)), "--context", str(context), "--directory", str(place)]
        processes.append(subprocess.Popen(program, stdin=subprocess.PIPE, stderr=log, stdout=log))  # noqa: S603
    try:
        yield Members(processes, places, share)
    finally:
        for process in processes:
            assert process.stdin is not None
            process.stdin.close()
        for process in processes:
            process.wait(60)


@contextmanager
def control_plane(directory: Path, database: str, count: int) -> Iterator[StateDirectory]:
    """Run a control plane with a filled array. Raises `keyreeve.errors`."""
    state_directory = StateDirectory.at(directory / ".keyreeve")
    service = _membership()
    with ExitStack() as stack:
        url = ""
        if database == "postgresql":
            place = directory / "postgresql"
            place.mkdir()
            url = stack.enter_context(postgresql.server(place))
        state_directory.make()
        for one in SERVICES:
            write_config(
                state_directory,
                one,
                trust_domain="bench.localhost",
                first_port=0,
                rng=random.SystemRandom(),
                database=url if one is service else "",
            )
        config = state_directory.config(service.name)
        config.write_text(config.read_text() + _SETTINGS)
        stack.callback(take_down, state_directory)
        _bring_up(state_directory)
        with Client(Context.load(state_directory.context)) as client:
            server = Server(f"members/{name_of(0)}", address_of(0), RELEASE)
            client.membership.arrays.create(server, array_id=ARRAY)
        take_down(state_directory)
        program = [sys.executable, "-P", "-m", "keyreeve_bench.member_fill"]
        subprocess.run([*program, "--members", str(count), "--config", str(config)], check=True)  # noqa: S603
        _bring_up(state_directory)
        yield state_directory


def measure(directory: Path, database: str, count: int, duration: float) -> dict[str, Any]:
    """Measure an array of `count` members. Raises `keyreeve.errors`."""
    print_error(f"    {count} members are entered and started")
    with ExitStack() as stack:
        state_directory = stack.enter_context(control_plane(directory, database, count))
        log = stack.enter_context((directory / "members.log").open("ab"))
        members = stack.enter_context(simulated(state_directory.context, directory, count, log))
        client = stack.enter_context(Client(Context.load(state_directory.context), timeout=60))
        pid = read_pid(pid_file(state_directory, _membership()))
        assert pid is not None
        service = Group(pid)
        began = time.monotonic()
        _wait(members, "all members are loaded", lambda told: _all_loaded(told, count))
        started = time.monotonic() - began
        time.sleep(REPORT_SECONDS)  # each has reported since, and its streams are open
        rest = _used(service, duration)
        members.stop_member(0)
        _wait(members, "the primary is gone", lambda told: told["running"] == count - 1)
        before, members_before, began = service.usage(), members.usage(), time.monotonic()
        print_error("    the primary is dead, and another member is promoted")
        quarantined, memory, left = _promote(client, members, service)
        taken, after = time.monotonic() - began, service.usage()
        cpu = after.cpu_seconds - before.cpu_seconds
        now, added = members.status(), max(0.0, cpu - rest / duration * taken)
        return {
            "members": count,
            "start_seconds": round(started, 1),
            "rest_us_per_report": round(rest / (count * duration / REPORT_SECONDS) * 1e6, 1),
            "promotion_seconds": round(taken, 1),
            "quarantined_after_seconds": round(quarantined, 1),
            "promotion_cpu_seconds": round(cpu, 2),
            "promotion_cpu_ms_per_member": round(added / count * 1000, 2),
            "members_cpu_seconds": round(members.usage() - members_before, 2),
            "memory_at_rest_mib": round(before.pss_bytes / _MIB, 1),
            "memory_mib": round(max(memory, after.pss_bytes) / _MIB, 1),
            "least_seconds_left": round(left),
            "running": now["running"],
            "authorities": dict(now["authorities"]),
            "problems": now["problems"],
        }


def _promote(client: Client, members: Members, service: Group) -> tuple[float, int, float]:
    """Promote a member, and quarantine the dead primary once only it is waited for.

    Returns the seconds until then, the largest memory, and the least time that a certificate had left.
    """
    arrays, rotations = client.membership.arrays, client.membership.rotations
    began, memory, left, quarantined = time.monotonic(), 0, float("inf"), 0.0
    operation = None
    while operation is None:
        try:
            operation = arrays.promote(name_of(1))
        except (ViewsDisagree, Unavailable, DeadlinePassed):
            _pause(began, "the views agree")
    rotation = operation.name.replace("operations/", "rotations/")
    ended_at, phase = None, ""
    while ended_at is None:
        memory = max(memory, service.usage().pss_bytes)
        left = min(left, members.status()["least_seconds_left"])
        with suppress(Unavailable, DeadlinePassed):  # all members call at once
            found = rotations.get(rotation)
            ended_at, phase = found.ended_at, found.phase
            if not quarantined and _waits_for(found) == {f"members/{name_of(0)}"}:
                client.membership.members.quarantine(name_of(0), "its server died")
                quarantined = time.monotonic() - began
        _pause(began, f"{rotation} ends: {phase}")
    ended = client.membership.operations.get(operation.name)
    if ended.state is not OperationState.SUCCEEDED:
        raise StartFailed(f"the promotion ended as {ended.state}: {ended.error_message}")
    return quarantined, memory, left


def _waits_for(rotation: Rotation) -> set[str]:
    return {one.member for one in rotation.members if one.waiting}


def _all_loaded(told: dict[str, Any], count: int) -> bool:
    loaded = sum(told["authorities"].values())
    return bool(told["running"] == loaded == count and told["members_seen"] == count)


def _wait(members: Members, what: str, seen: Callable[[dict[str, Any]], bool]) -> None:
    began, told = time.monotonic(), None
    while told is None or not seen(told):
        if any(process.poll() is not None for process in members.processes):
            raise StartFailed(f"simulated members have ended before: {what}")
        if all((place / "status.json").exists() for place in members.directories):
            told = members.status()
        _pause(began, f"{what}: {told}")


def _pause(began: float, what: str) -> None:
    if time.monotonic() - began > _LONGEST:
        raise StartFailed(f"not within {_LONGEST:g} s: {what}")
    time.sleep(0.5)


def _used(service: Group, seconds: float) -> float:
    before: Usage = service.usage()
    time.sleep(seconds)
    return service.usage().cpu_seconds - before.cpu_seconds


def _membership() -> Service:
    [service] = [one for one in SERVICES if one.name == "membership"]
    return service


def _bring_up(state_directory: StateDirectory) -> None:
    bring_up(state_directory, trust_domain="bench.localhost", first_port=0, report=lambda _: None)


def run(place: Place, counts: Sequence[int]) -> tuple[list[Figure], dict[str, Any]]:
    """Measure arrays of these sizes, the largest last. Raises `keyreeve.errors`."""
    found = []
    for count in counts:
        directory = place.directory / f"{count}"
        directory.mkdir(mode=0o711)
        found.append(measure(directory, place.database, count, place.duration))
        print_error(f"    {json.dumps(found[-1])}")
        shutil.rmtree(directory, ignore_errors=True)
    last = found[-1]
    figures = [
        Figure("promotion", last["promotion_seconds"], "s"),
        Figure("CPU of a report", last["rest_us_per_report"], "us"),
        Figure("CPU of a promotion for each member", last["promotion_cpu_ms_per_member"], "ms"),
        Figure("memory of the service, PSS", last["memory_mib"], "MiB"),
        Figure("members that ran to the end", last["running"], at_least=counts[-1] - 1),
        Figure("least time that a certificate had left", last["least_seconds_left"], "s", at_least=1),
    ]
    for name, key in (("report", "rest_us_per_report"), ("promotion", "promotion_cpu_ms_per_member")):
        if len(found) > 1:
            grown = round(last[key] / found[0][key], 2)
            figures.append(Figure(f"CPU of a {name}, {counts[-1]} to {counts[0]} members", grown, at_most=GROWTH))
    return figures, {"arrays": found}


def main(arguments: Sequence[str]) -> int:
    """Measure, print one JSON object and return the exit code: 1 when a target is missed."""
    parser = argparse.ArgumentParser(prog="python -m keyreeve_bench.members", description="Measure a large array.")
    parser.add_argument("--members", type=int, default=500)
    parser.add_argument("--compare", type=int, default=100, help="members of a smaller array before; 0: none")
    parser.add_argument("--database", choices=DATABASES, default="sqlite")
    parser.add_argument("--duration", type=float, default=30.0, help="seconds of the measurement at rest")
    given = parser.parse_args(arguments)
    counts = [count for count in (given.compare, given.members) if count]
    return print_report("members", given.database, given.duration, given.members, lambda place: run(place, counts))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
