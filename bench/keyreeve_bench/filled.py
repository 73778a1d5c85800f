"""`python -m keyreeve_bench.filled`: the same measurements on an empty and on a filled ledger, and what is between them.

    python -m keyreeve_bench.filled --certificates 20000000 [--database postgresql] [--duration 10] [--runs 5]

A control plane of its own, in a temporary directory (`TMPDIR` says where; 20 million certificates take about 35 GB), is
started, measured, stopped, filled (`keyreeve_bench.fill`), and started and measured again.
"""

import argparse
import asyncio
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc

from keyreeve import Client, Context, credentials
from keyreeve.ca.v1 import certificate_service_pb2 as pb
from keyreeve.ca.v1 import certificate_service_pb2_grpc as stubs
from keyreeve.cli.exits import error_text, exit_code, say
from keyreeve.cli.fleet import SERVICES, read_config
from keyreeve.cli.home import Home
from keyreeve.cli.starting import bring_up, take_down
from keyreeve.errors import KeyreeveError
from keyreeve_bench.fill import Filled, fill, open_engine
from keyreeve_bench.planes import DATABASES, control_plane
from keyreeve_bench.settings import BenchSettings
from keyreeve_bench.sign import bench_sign

CALLS = 300
PAGES = 50
PAGE = 100
_SEED = 7
_KINDS: dict[str, dict[str, Any]] = {"unary": {}, "batch": {"batch": 100, "in_flight": 8, "connections": 4}}


def run(database: str, certificates: int, duration: float, runs: int, only: Sequence[str]) -> dict[str, Any]:
    """Both halves, as plain values. Raises `keyreeve.errors`."""
    # Not below the working directory: PostgreSQL's own user has to reach it, and socket names are short.
    with tempfile.TemporaryDirectory(prefix="keyreeve-bench-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o711)
        with control_plane(Path(name), database) as home:
            say(f"--- empty ledger on {database}")
            take_down(home)
            empty = _measure(home, duration, runs, only, None)
            take_down(home)
            say(f"--- {certificates:,} certificates are made up")
            with ExitStack() as stack:
                filled = fill(open_engine(_url(home), stack), certificates, int(time.time()))
            say(f"--- filled ledger on {database}")
            full = _measure(home, duration, runs, only, filled)
    rates = {name: full[name]["median"] / empty[name]["median"] for name in only}
    return {
        "database": database,
        "certificates": certificates,
        "fill_seconds": round(filled.seconds, 1),
        "empty": empty,
        "filled": full,
        "filled_of_empty": {name: round(rate, 3) for name, rate in rates.items()},
    }


def _measure(home: Home, duration: float, runs: int, only: Sequence[str], filled: Filled | None) -> dict[str, Any]:
    began = time.perf_counter()
    bring_up(home, trust_domain="bench.localhost", first_port=0, tell=lambda _: None)
    found: dict[str, Any] = {"start_seconds": round(time.perf_counter() - began, 2)}
    usual = BenchSettings(
        context=str(home.context), duration=duration, runs=runs, warm_up=min(2.0, duration), limit_seconds=0.5
    )
    for name in only:
        report = asyncio.run(bench_sign(replace(usual, **_KINDS[name])))
        found[name] = report["certificates_per_second"] | {"of_limits": report["ratios"]}
        if not report["ok"]:
            say(f"checks of {name} did not hold: {[c for c in report['checks'] if not c['ok']]}")
    if filled is not None:
        found["reads_ms"] = _reads(home, filled)
    return found


def _reads(home: Home, filled: Filled) -> dict[str, dict[str, float]]:
    """Milliseconds of look-ups, and of pages by each kind of filter, as they go over the wire one after the other."""
    some = random.Random(_SEED).choices(filled.serials, k=CALLS)  # noqa: S311 - a sample
    context = Context.load(home.context)
    with Client(context) as client:
        found = {"get_certificate": _timed([lambda s=s: client.certificates.get(s) for s in some])}  # type: ignore[misc]
        identity = client.certificates.get(some[0]).identity
    filters: dict[str, dict[str, Any]] = {
        "all": {},
        "authority": {"authority": "authorities/estate-issuing-1"},
        "profile": {"profile": "profiles/server"},
        "profile_of_few": {"profile": "profiles/workload"},
        "expired": {"state": pb.CERTIFICATE_STATE_EXPIRED},
        "revoked": {"state": pb.CERTIFICATE_STATE_REVOKED},
        "identity": {"identity": identity},
    }
    files = credentials.read(context)
    address = context.endpoint("ca")
    with grpc.secure_channel(
        address, files.channel_credentials(), credentials.channel_options(context, "ca")
    ) as channel:
        stub = stubs.CertificateServiceStub(channel)
        for name, wanted in filters.items():
            found[f"page_{name}"] = _pages(stub, wanted)
    return found


def _pages(stub: stubs.CertificateServiceStub, wanted: dict[str, Any]) -> dict[str, float]:
    """Pages from the first one on, for as many as there are."""
    token = [""]

    def turn() -> None:
        request = pb.ListCertificatesRequest(page_size=PAGE, page_token=token[0], **wanted)
        token[0] = stub.ListCertificates(request, timeout=60).next_page_token

    return _timed([turn] * PAGES)


def _timed(calls: Sequence[Callable[[], object]]) -> dict[str, float]:
    taken = []
    for call in calls:
        began = time.perf_counter()
        call()
        taken.append((time.perf_counter() - began) * 1e3)
    taken.sort()
    return {
        "p50": round(statistics.median(taken), 2),
        "p99": round(taken[min(len(taken) - 1, int(len(taken) * 0.99))], 2),
        "max": round(taken[-1], 2),
    }


def _url(home: Home) -> str:
    url: str = read_config(home.config(SERVICES[0].name))["database"]["url"]
    if url.startswith("sqlite:///"):
        return f"sqlite:///{home.state(SERVICES[0].name) / url.removeprefix('sqlite:///')}"
    return url


def main(arguments: Sequence[str]) -> int:
    """Measure; one JSON object on standard output. The exit code."""
    parser = argparse.ArgumentParser(prog="python -m keyreeve_bench.filled", description="Empty and filled ledgers.")
    parser.add_argument("--certificates", type=int, default=20_000_000)
    parser.add_argument("--database", choices=DATABASES, default="sqlite")
    parser.add_argument("--duration", type=float, default=10.0, help="seconds of each run")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", action="append", choices=tuple(_KINDS), help="both kinds of calls unless given")
    given = parser.parse_args(arguments)
    try:
        found = run(given.database, given.certificates, given.duration, given.runs, given.only or tuple(_KINDS))
    except KeyreeveError as error:
        say(error_text(error))
        return exit_code(error)
    sys.stdout.write(json.dumps(found, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
