"""Temporary control planes for benchmarks, made as `keyreeve up` makes them, on either database."""

import random
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


def database_url(state_directory: StateDirectory) -> str:
    """URL of a control plane's ledger; the path of an SQLite file is absolute."""
    url: str = read_config(state_directory.config(SERVICES[0].name))["database"]["url"]
    if url.startswith("sqlite:///"):
        return f"sqlite:///{state_directory.state(SERVICES[0].name) / url.removeprefix('sqlite:///')}"
    return url
