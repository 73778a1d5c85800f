"""A control plane of a bench's own, as `keyreeve up` makes one, on either database."""

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from keyreeve.cli.fleet import SERVICES, read_config, write_config
from keyreeve.cli.home import Home
from keyreeve.cli.starting import bring_up, take_down
from keyreeve_bench import postgresql

DATABASES = ("sqlite", "postgresql")


@contextmanager
def control_plane(directory: Path, database: str) -> Iterator[Home]:
    """A control plane on free ports, with an empty ledger in the database. Raises `keyreeve.errors`."""
    home = Home.at(directory / ".keyreeve")
    with ExitStack() as stack:
        home.make()
        write_config(home, SERVICES[0], trust_domain="bench.localhost", first_port=0, chance=random.SystemRandom())
        if database == "postgresql":
            place = directory / "postgresql"
            place.mkdir()
            url = stack.enter_context(postgresql.server(place))
            config = home.config(SERVICES[0].name)
            config.write_text(config.read_text().replace("sqlite:///ca.db", url))
        stack.callback(take_down, home)
        bring_up(home, trust_domain="bench.localhost", first_port=0, tell=lambda _: None)
        yield home


def database_url(home: Home) -> str:
    """Where the ledger of a control plane is; the path of an SQLite file is absolute."""
    url: str = read_config(home.config(SERVICES[0].name))["database"]["url"]
    if url.startswith("sqlite:///"):
        return f"sqlite:///{home.state(SERVICES[0].name) / url.removeprefix('sqlite:///')}"
    return url
