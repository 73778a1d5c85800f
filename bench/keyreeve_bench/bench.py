"""State of one benchmark: its settings, and the results as they arrive."""

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
    """Settings and results of a running benchmark."""

    settings: BenchSettings
    context: Context
    progress: Progress
    corpus_file: Path
    answer: bytes
    """The service's answer to one call made before the measurements."""
    server: Group | None
    ledger: Ledger | None
    marker: str = field(default_factory=new_marker)
    since: int = field(default_factory=lambda: int(time.time()))
    checkpoint: Witnessed | None = None
    """The last checkpoint of the service's audit log before the load."""
    outcomes: list[Outcome] = field(default_factory=list)
    """Outcomes of the measured runs."""
    all: list[Outcome] = field(default_factory=list)
    """Outcomes of all loads on the service: the runs, the overload and the sweep."""
    signing_limits: list[float] = field(default_factory=list)
    echo_rates: list[float] = field(default_factory=list)
    echo_client: str = ""
    """What called the echo, and how many calls were in flight."""
    baselines: dict[str, list[Tally]] = field(default_factory=dict)
    points: list[Point] = field(default_factory=list)
    """Points of the plot."""
    overload: Overload | None = None

    def load(self, *steps: Step) -> Load:
        """Build the configured load with these steps."""
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
        """Process groups whose CPU time and memory are measured."""
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
