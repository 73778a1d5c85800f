"""What one bench knows and gathers while it runs."""

import time
from dataclasses import dataclass, field
from pathlib import Path

from keyreeve.audit.verifying import Witnessed
from keyreeve.context import Context
from keyreeve_bench.ledger import Ledger
from keyreeve_bench.local_processes import Group
from keyreeve_bench.overloading import Overload
from keyreeve_bench.plot import Point
from keyreeve_bench.progress import Progress
from keyreeve_bench.recording import Tally
from keyreeve_bench.request_ids import new_marker
from keyreeve_bench.session import Load, Outcome, Step
from keyreeve_bench.settings import BenchSettings


@dataclass(slots=True)
class Bench:
    """What is known and gathered while a bench runs."""

    settings: BenchSettings
    context: Context
    progress: Progress
    corpus_file: Path
    answer: bytes
    """The service's answer to one call before everything else."""
    server: Group | None
    ledger: Ledger | None
    marker: str = field(default_factory=new_marker)
    since: int = field(default_factory=lambda: int(time.time()))
    checkpoint: Witnessed | None = None
    """Where the service's audit log ended before the load."""
    outcomes: list[Outcome] = field(default_factory=list)
    """The runs."""
    all: list[Outcome] = field(default_factory=list)
    """The runs, and whatever else was asked of the service."""
    limits: list[float] = field(default_factory=list)
    echoes: list[float] = field(default_factory=list)
    peers: dict[str, list[Tally]] = field(default_factory=dict)
    points: list[Point] = field(default_factory=list)
    """What the plot shows."""
    overload: Overload | None = None

    def load(self, *steps: Step) -> Load:
        """The load that was asked for, through these steps."""
        settings = self.settings
        assert self.context.path is not None
        return Load(
            context=self.context.path.absolute(),
            corpus=self.corpus_file,
            profile=settings.profile,
            steps=steps,
            processes=settings.processes,
            connections=settings.connections,
            marker=self.marker,
            batch=settings.batch,
            client=settings.client,
            coalesce=settings.coalesce,
            timeout=settings.timeout,
            repeat=settings.repeat,
            acknowledgements=settings.acknowledgements,
        )

    def watched(self) -> dict[str, Group]:
        """Whose CPU time and memory are taken."""
        groups: dict[str, Group] = {}
        if self.server is not None:
            groups |= {
                "server": self.server,
                "workers": self.server.only("worker"),
                "coordinator": self.server.only("coordinator"),
            }
        if self.ledger is not None and self.ledger.group is not None:
            groups["database"] = self.ledger.group
        return groups
