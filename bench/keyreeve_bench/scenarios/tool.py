"""Loads of a scenario against one control plane, with a shared corpus of requests."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from keyreeve import Client, Context
from keyreeve.cli.supervision.state_directory import StateDirectory
from keyreeve.keys import make_csr, make_key, save_key
from keyreeve.values import Name
from keyreeve_bench import corpus, session
from keyreeve_bench.ledger import open_ledger
from keyreeve_bench.local_processes import Group, server_group
from keyreeve_bench.recording import Tally
from keyreeve_bench.request_ids import new_marker
from keyreeve_bench.session import MEASURED, WARM_UP, Load, Outcome, Step

BATCH = 100
BATCHES = 8
"""Batches in flight in a closed loop."""
SINGLES = 64
"""Single calls in flight in a closed loop."""
_SPARE_SECONDS = 120.0
"""Time for a load to start and end, in addition to its phases and the deadline of its last call."""
_SUFFIX = "bench.example.test"


class Tool:
    """Makes and runs loads against one control plane, with requests for P-256 keys."""

    def __init__(self, state_directory: StateDirectory, directory: Path) -> None:
        self.state_directory = state_directory
        self.directory = directory
        self._corpus = directory / "corpus"
        corpus.save(self._corpus, corpus.make_corpus("p256", _SUFFIX))

    @property
    def server(self) -> dict[str, Group]:
        """The service's processes."""
        group = server_group(self.state_directory, None)
        return {} if group is None else {"server": group}

    @property
    def database(self) -> dict[str, Group]:
        """PostgreSQL's processes; empty with SQLite."""
        group = open_ledger(self.state_directory, None).group
        return {} if group is None else {"database": group}

    def singles(self, *steps: Step, context: Path | None = None, requests: Path | None = None) -> Load:
        """Make a load of single calls, as the admin of the control plane unless a context is given."""
        return Load(
            context=context or self.state_directory.context,
            corpus=requests or self._corpus,
            profile="server",
            steps=steps,
            processes=2,
            connections=8,
            marker=new_marker(),
            keeps_serials=False,
        )

    def batches(self, *steps: Step) -> Load:
        """Make a load of batches of 100."""
        return replace(self.singles(*steps), batch=BATCH, connections=8)

    def go(self, *loads: Load, watched: dict[str, Group] | None = None) -> list[Outcome]:
        """Run loads that start at the same time. Raises `keyreeve.errors`."""
        longest = max(sum(step.seconds for step in load.steps) + load.timeout for load in loads)
        together = session.run_together(loads, watched=watched or {}, show=lambda *_: None)
        return asyncio.run(asyncio.wait_for(together, longest + _SPARE_SECONDS))

    def capacity(self, kind: str, seconds: float) -> Tally:
        """Measure the capacity: `unary` with 64 calls in flight, `batch` with 8. Raises `keyreeve.errors`."""
        steps = closed(seconds, BATCHES if kind == "batch" else SINGLES)
        return self.go(self.batches(*steps) if kind == "batch" else self.singles(*steps))[0].measured

    def another(self, name: str) -> Path:
        """Make the context of another workload identity. Raises `keyreeve.errors`."""
        ours = Context.load(self.state_directory.context)
        place = self.directory / name
        place.mkdir()
        key = make_key()
        save_key(place / "workload.key", key)
        identity = f"spiffe://{ours.trust_domain}/workloads/{name}"
        with Client(ours) as client:
            signed = client.certificates.sign("workload", make_csr(key, [Name.uri(identity)]))
        (place / "workload.pem").write_text(signed.pem())
        context = replace(ours, certificate=place / "workload.pem", key=place / "workload.key", path=None)
        context.save(place / "context.json")
        return place / "context.json"


def closed(seconds: float, in_flight: int) -> list[Step]:
    """A closed loop after a warm-up."""
    return [Step(WARM_UP, min(2.0, seconds), in_flight), Step(MEASURED, seconds, in_flight)]


def opened(seconds: float, in_flight: int, rate: float) -> list[Step]:
    """An open loop at a rate of calls per second, after a warm-up."""
    return [Step(WARM_UP, min(2.0, seconds), in_flight, rate), Step(MEASURED, seconds, in_flight, rate)]


def together(tallies: Sequence[Tally]) -> Tally:
    """Sum of several tallies."""
    total = Tally()
    for tally in tallies:
        total.then(tally)
    return total


def errors_of(tally: Tally) -> list[dict[str, object]]:
    """Failures with their counts, for a report."""
    return [{"status": status, "reason": reason, "count": n} for (status, reason), n in tally.errors.most_common()]
