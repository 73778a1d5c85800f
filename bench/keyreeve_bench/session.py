"""Loads: client processes that call through a few phases, and the CPU time and memory used meanwhile."""

import asyncio
import itertools
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from keyreeve_bench import children
from keyreeve_bench.children import Child, Document
from keyreeve_bench.local_processes import Group, Usage
from keyreeve_bench.recording import Tally

MEASURED = "measured"
WARM_UP = "warm-up"


@dataclass(frozen=True, slots=True)
class Step:
    """A phase over all processes; `rate` is in calls per second."""

    name: str
    seconds: float
    in_flight: int
    rate: float | None = None


@dataclass(frozen=True, slots=True)
class Load:
    """Configuration of a load."""

    context: Path
    corpus: Path
    profile: str
    steps: Sequence[Step]
    processes: int
    connections: int
    marker: str
    batch: int = 1
    client: str = "grpc"
    coalesce: bool = True
    timeout: float = 30.0
    repeat: bool = False
    acknowledgements: str | None = None
    keeps_serials: bool = True

    def orders(self, directory: Path) -> list[Document]:
        """Orders for each process; there are at most as many processes as calls in flight."""
        count = min(self.processes, *(step.in_flight for step in self.steps))
        return [
            {
                "context": str(self.context),
                "corpus": str(self.corpus),
                "profile": self.profile,
                "batch": self.batch,
                "client": self.client,
                "coalesce": self.coalesce,
                "timeout": self.timeout,
                "repeat": self.repeat,
                "acknowledgements": self.acknowledgements,
                "marker": self.marker,
                "process": number,
                "processes": count,
                "connections": max(1, _share(self.connections, number, count)),
                "serials": str(directory / f"serials-{number}") if self.keeps_serials else None,
                "phases": [
                    {
                        "name": step.name,
                        "seconds": step.seconds,
                        "in_flight": _share(step.in_flight, number, count),
                        "rate": None if step.rate is None else step.rate / count,
                        "offset": number / count,
                    }
                    for step in self.steps
                ],
            }
            for number in range(count)
        ]


@dataclass(frozen=True, slots=True)
class Outcome:
    """Result of a load."""

    phases: dict[str, Tally]
    cpu_seconds: dict[str, float]
    """CPU time of each watched group and of the clients during the measured phase."""
    rss_bytes: dict[str, int]
    pss_bytes: dict[str, int]
    """Proportional set size of each group where it can be read: a shared page counts once over all processes."""
    acknowledged: int
    unknown: int
    repeated: int
    serials: bytes
    samples: list[Document]

    @property
    def measured(self) -> Tally:
        return self.phases[MEASURED]


@dataclass
class Progress:
    """Sums the progress reports of the processes."""

    show: Callable[[str, int, int], None]
    """Called with the phase, the certificates acknowledged so far, and the failures."""
    _latest: dict[int, Document] = field(default_factory=dict)

    def of(self, child: Child) -> Callable[[Document], None]:
        def receive(document: Document) -> None:
            self._latest[child.pid] = document
            acknowledged = sum(one["acknowledged"] for one in self._latest.values())
            self.show(document["phase"], acknowledged, sum(one["failed"] for one in self._latest.values()))

        return receive


async def run(load: Load, *, watched: dict[str, Group], show: Callable[[str, int, int], None]) -> Outcome:
    """Run a load and measure the `watched` groups during its measured phase. Raises `keyreeve.errors`."""
    return (await run_together([load], watched=watched, show=show))[0]


async def run_together(
    loads: Sequence[Load], *, watched: dict[str, Group], show: Callable[[str, int, int], None]
) -> list[Outcome]:
    """Run loads that start at the same time; return their outcomes. Raises `keyreeve.errors`."""
    progress = Progress(show)
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="keyreeve-bench-")))
        orders = [load.orders(directory / str(number)) for number, load in enumerate(loads)]
        for number in range(len(loads)):
            (directory / str(number)).mkdir()
        started = await children.start_all("keyreeve_bench.client", [one for each in orders for one in each], stack)
        for child in started:
            child.on_progress(progress.of(child))
        start = await children.begin_all(started)
        rest, goes = iter(started), []
        for load, told in zip(loads, orders, strict=True):
            goes.append(_go(load, told, list(itertools.islice(rest, len(told))), start, watched))
        return await asyncio.gather(*goes)


async def _go(
    load: Load, orders: Sequence[Document], processes: Sequence[Child], start: float, watched: dict[str, Group]
) -> Outcome:
    clients = [Group(child.pid) for child in processes]
    using = asyncio.create_task(_use(load.steps, start, watched, clients))
    try:
        results = await children.results_of(processes)
        before, after = await using
    finally:
        using.cancel()
    phases = {
        step.name: Tally.of(step.seconds, (result["phases"][step.name] for result in results)) for step in load.steps
    }
    files = [Path(order["serials"]) for order in orders if order["serials"]]
    return Outcome(
        phases=phases,
        cpu_seconds={name: after[name].cpu_seconds - before[name].cpu_seconds for name in after},
        rss_bytes={name: usage.rss_bytes for name, usage in after.items()},
        pss_bytes={name: usage.pss_bytes for name, usage in after.items() if usage.pss_bytes},
        acknowledged=sum(result["acknowledged"] for result in results),
        unknown=sum(result["unknown"] for result in results),
        repeated=sum(result["repeated"] for result in results),
        serials=b"".join(file.read_bytes() for file in files),
        samples=[sample for result in results for sample in result["samples"]],
    )


async def _use(
    steps: Sequence[Step], start: float, watched: dict[str, Group], clients: Sequence[Group]
) -> tuple[dict[str, Usage], dict[str, Usage]]:
    """Usage of the groups at the start and at the end of the measured phase."""
    begin = start + sum(step.seconds for step in steps[: [step.name for step in steps].index(MEASURED)])
    end = begin + next(step.seconds for step in steps if step.name == MEASURED)
    moments = []
    for moment in (begin, end):
        await asyncio.sleep(max(0.0, moment - time.monotonic()))
        each = [client.usage() for client in clients]  # first: they exit as soon as their last call has ended
        used = {name: group.usage() for name, group in watched.items()}
        used["client"] = Usage(
            sum(one.cpu_seconds for one in each), sum(one.rss_bytes for one in each), sum(one.pss_bytes for one in each)
        )
        moments.append(used)
    return moments[0], moments[1]


def _share(total: int, number: int, count: int) -> int:
    """This process's share of a total that is divided evenly."""
    return total // count + (number < total % count)
