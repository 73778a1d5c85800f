"""Temporary control planes for benchmarks, made as `keyreeve up` makes them, on either database."""

import random
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from keyreeve.cli.local.starting import bring_up
from keyreeve.cli.local.stopping import take_down
from keyreeve.cli.supervision.local_services import SERVICES, read_config, write_config
from keyreeve.cli.supervision.state_directory import StateDirectory
from keyreeve_bench import postgresql

DATABASES = ("sqlite", "postgresql")


@contextmanager
def control_plane(directory: Path, database: str) -> Iterator[StateDirectory]:
    """Run a control plane on free ports with an empty ledger. Raises `keyreeve.errors`."""
    state_directory = StateDirectory.at(directory / ".keyreeve")
    with ExitStack() as stack:
        state_directory.make()
        write_config(
            state_directory, SERVICES[0], trust_domain="bench.localhost", first_port=0, rng=random.SystemRandom()
        )
        if database == "postgresql":
            place = directory / "postgresql"
            place.mkdir()
            url = stack.enter_context(postgresql.server(place))
            config = state_directory.config(SERVICES[0].name)
            config.write_text(config.read_text().replace("sqlite:///ca.db", url))
        stack.callback(take_down, state_directory)
        bring_up(state_directory, trust_domain="bench.localhost", first_port=0, report=lambda _: None)
        yield state_directory


@contextmanager
def replica(directory: Path, url: str, workers: int, first: StateDirectory | None = None) -> Iterator[StateDirectory]:
    """Run a replica of a CA on a PostgreSQL database: the first one, or another beside it. Raises `keyreeve.errors`."""
    state_directory = StateDirectory.at(directory / ".keyreeve")
    state_directory.make()
    service = SERVICES[0]
    write_config(state_directory, service, trust_domain="bench.localhost", first_port=0, rng=random.SystemRandom())
    config = state_directory.config(service.name)
    text = config.read_text().replace("sqlite:///ca.db", url)
    config.write_text(f"{text}workers: {workers}\ninstance: {directory.name}\n")
    if first is not None:
        shutil.copy(first.state(service.name) / "kek", state_directory.state(service.name) / "kek")
    try:
        bring_up(state_directory, trust_domain="bench.localhost", first_port=0, report=lambda _: None)
        yield state_directory
    finally:
        take_down(state_directory)


def database_url(state_directory: StateDirectory) -> str:
    """URL of a control plane's ledger; the path of an SQLite file is absolute."""
    url: str = read_config(state_directory.config(SERVICES[0].name))["database"]["url"]
    if url.startswith("sqlite:///"):
        return f"sqlite:///{state_directory.state(SERVICES[0].name) / url.removeprefix('sqlite:///')}"
    return url
