"""`make bench`: the standard runs, against a control plane that it makes for them, on SQLite and on PostgreSQL.

Everything lies in a temporary directory and on free ports, and is gone afterwards; the reports stay, one JSON file for each
row of the table.
"""

import argparse
import asyncio
import json
import random
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from keyreeve.cli.exits import error_text, exit_code, say
from keyreeve.cli.fleet import SERVICES, write_config
from keyreeve.cli.home import Home
from keyreeve.cli.starting import bring_up, take_down
from keyreeve.errors import KeyreeveError
from keyreeve_bench import postgresql
from keyreeve_bench.settings import BenchSettings
from keyreeve_bench.sign import bench_sign
from keyreeve_bench.table import table

DATABASES = ("sqlite", "postgresql")


@dataclass(frozen=True, slots=True)
class Row:
    """One bench of the standard set."""

    name: str
    settings: BenchSettings


def rows(duration: float, runs: int, compare: Sequence[str]) -> list[Row]:
    """The standard set, without the open loop, whose rate is half of what `unary` brought."""
    usual = BenchSettings(duration=duration, runs=runs, warm_up=min(2.0, duration), limit_seconds=min(1.0, duration))
    few = replace(usual, runs=min(runs, 3))
    return [
        Row("unary", replace(usual, compare=tuple(compare), overload=duration)),
        Row("batch-100", replace(usual, batch=100, in_flight=8, connections=4, overload=duration)),
        Row("sdk", replace(few, client="sdk", in_flight=256, processes=1)),
        Row("sdk-one-by-one", replace(few, client="sdk", in_flight=256, processes=1, coalesce=False)),
        *(Row(f"batch-100-{keys}", replace(few, batch=100, in_flight=8, connections=4, keys=keys)) for keys in _KEYS),
    ]


_KEYS = ("p384", "rsa2048", "ed25519", "mix")


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


def run_database(database: str, wanted: list[Row], only: Sequence[str], reports: Path) -> bool:
    """Run the rows on one database and write their reports; whether all checks held. Raises `keyreeve.errors`."""
    held = True
    # Not below the working directory: PostgreSQL's own user has to reach it, and socket names are short.
    with tempfile.TemporaryDirectory(prefix="keyreeve-bench-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o711)
        with control_plane(Path(name), database) as home:
            todo = list(wanted)
            for row in todo:
                if only and row.name not in only:
                    continue
                say(f"--- {row.name} on {database}")
                settings = replace(row.settings, context=str(home.context))
                report = asyncio.run(bench_sign(settings))
                held &= _keep(reports / f"{row.name}-{database}.json", report)
                if row.name == "unary":
                    half = report["certificates_per_second"]["median"] / 2
                    open_loop = replace(row.settings, rate=half, in_flight=1024, compare=(), overload=None)
                    todo.insert(todo.index(row) + 1, Row("open-loop-half", open_loop))
            shutil.copy(home.log("ca"), reports / f"ca-{database}.log")
    return held


def _keep(file: Path, report: dict[str, Any]) -> bool:
    file.write_text(json.dumps(report, indent=2) + "\n")
    sys.stdout.write(f"\n{file.stem}\n{table(report)}\n")
    sys.stdout.flush()
    return bool(report["ok"])


def main(arguments: Sequence[str]) -> int:
    """Run the standard set; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m keyreeve_bench.standard", description="The standard runs.")
    parser.add_argument("--duration", type=float, default=10.0, help="seconds of each run")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--database", action="append", choices=DATABASES, help="both unless given")
    parser.add_argument("--only", action="append", default=[], help="name of a row, such as unary or batch-100")
    parser.add_argument("--compare", action="append", default=[], help="a peer to measure beside `unary`")
    parser.add_argument("--reports", type=Path, default=Path(".bench/reports"))
    given = parser.parse_args(arguments)
    given.reports.mkdir(parents=True, exist_ok=True)
    try:
        wanted = rows(given.duration, given.runs, given.compare)
        held = [
            run_database(
                database, wanted, [*given.only, *(["open-loop-half"] if "unary" in given.only else [])], given.reports
            )
            for database in given.database or DATABASES
        ]
    except KeyreeveError as error:
        say(error_text(error))
        return exit_code(error)
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
