"""`python -m keyreeve_bench.filled`: compare a filled ledger with an empty one.

    python -m keyreeve_bench.filled --certificates 20000000 [--database postgresql] [--duration 10] [--runs 5]

Starts two control planes in a temporary directory (`TMPDIR`; 20 million certificates take about 35 GB), fills the ledger
of one (`keyreeve_bench.fill`), and measures both alternately, so that other load on the machine affects both. The machine's
limits are measured with each run.
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

from keyreeve import Client, Context, channel_credentials
from keyreeve.ca.v1 import certificate_service_pb2 as pb
from keyreeve.ca.v1 import certificate_service_pb2_grpc as stubs
from keyreeve.cli.exit_codes import error_text, exit_code, print_error
from keyreeve.cli.local.starting import bring_up
from keyreeve.cli.local.stopping import take_down
from keyreeve.cli.supervision.state_directory import StateDirectory
from keyreeve.errors import KeyreeveError, StartFailed
from keyreeve_bench.control_planes import DATABASES, control_plane, database_url
from keyreeve_bench.fill import Filled, fill, open_engine
from keyreeve_bench.scenarios.scenario import Figure, Place, ratio, scenario_report
from keyreeve_bench.settings import BenchSettings
from keyreeve_bench.sign import bench_sign

CALLS = 3_000
"""Enough for a stable p99: of 300 calls it would be the third slowest, which a single slow fsync decides."""
PAGES = 50
PAGE = 100
_SEED = 7
_KINDS: dict[str, dict[str, Any]] = {"unary": {}, "batch": {"batch": 100, "in_flight": 8, "connections": 4}}


def run(place: Place) -> tuple[list[Figure], dict[str, Any]]:
    """Fill one control plane and measure it alternately with an empty one. Raises `keyreeve.errors`."""
    kinds = place.only or tuple(_KINDS)
    with ExitStack() as stack:
        control_planes = {}
        for name in ("empty", "filled"):
            directory = place.directory / name
            directory.mkdir()
            control_planes[name] = stack.enter_context(control_plane(directory, place.database))
            take_down(control_planes[name])
        print_error(f"    {place.certificates:,} synthetic certificates are inserted")
        with ExitStack() as opened:
            filled = fill(
                open_engine(database_url(control_planes["filled"]), opened), place.certificates, int(time.time())
            )
        starts = {name: _start(state_directory) for name, state_directory in control_planes.items()}
        found: dict[str, Any] = {name: {kind: [] for kind in kinds} for name in control_planes}
        for kind in kinds:
            for _ in range(place.runs):
                for name, state_directory in control_planes.items():
                    found[name][kind].append(_measure(state_directory, kind, place.duration))
        take_down(control_planes["empty"])  # an idle service still polls for changes, on the same cores
        reads = _reads(control_planes["filled"], filled)
    told = {name: {kind: _median(some) for kind, some in kinds.items()} for name, kinds in found.items()}
    figures = []
    for kind in kinds:
        full, empty = told["filled"][kind], told["empty"][kind]
        figures += [
            Figure(f"{kind}: empty", empty["certificates_per_second"], "certificates/s"),
            Figure(f"{kind}: filled", full["certificates_per_second"], "certificates/s"),
            Figure(f"{kind}: filled / empty", ratio(full["certificates_per_second"], empty["certificates_per_second"])),
            Figure(
                f"{kind}: filled / empty, each relative to its signing limit",
                ratio(full["to_signing_limit"], empty["to_signing_limit"]),
            ),
        ]
    figures += [Figure(f"start, {name}", seconds, "s") for name, seconds in starts.items()]
    figures += [
        Figure(f"{name.replace('_', ' ')}, {at}", reads[name][at], "ms") for name in reads for at in ("p50", "p99")
    ]
    details = {
        "certificates": place.certificates,
        "fill_seconds": round(filled.seconds, 1),
        "start_seconds": starts,
        "runs_of": found,
        "medians": told,
        "reads_ms": reads,
    }
    return figures, details


def _start(state_directory: StateDirectory) -> float:
    began = time.perf_counter()
    bring_up(state_directory, trust_domain="bench.localhost", first_port=0, report=lambda _: None)
    return round(time.perf_counter() - began, 2)


def _measure(state_directory: StateDirectory, kind: str, duration: float) -> dict[str, Any]:
    """Measure one run, with the limits before and after it."""
    settings = BenchSettings(
        context=str(state_directory.context), duration=duration, runs=1, warm_up=min(2.0, duration), limit_seconds=0.5
    )
    report = asyncio.run(bench_sign(replace(settings, **_KINDS[kind])))
    if not report["ok"]:
        raise StartFailed(f"checks of {kind} failed: {[c for c in report['checks'] if not c['ok']]}")
    return {
        "certificates_per_second": report["certificates_per_second"]["median"],
        "p99_ms": report["latency_ms"]["p99"],
        **report["ratios"],
    }


def _median(some: Sequence[dict[str, Any]]) -> dict[str, float]:
    return {name: statistics.median(one[name] or 0.0 for one in some) for name in some[0]}


def _reads(state_directory: StateDirectory, filled: Filled) -> dict[str, dict[str, float]]:
    """Measure lookups and pages by each kind of filter, one call after the other, in milliseconds."""
    some = random.Random(_SEED).choices(filled.serials, k=CALLS)  # noqa: S311 - a sample
    context = Context.load(state_directory.context)
    with Client(context) as client:
        identity = client.certificates.get(some[0]).identity  # also opens the connection
        found = {"get_certificate": _timed([lambda s=s: client.certificates.get(s) for s in some])}  # type: ignore[misc]
    filters: dict[str, dict[str, Any]] = {
        "all": {},
        "authority": {"authority": "authorities/estate-issuing-1"},
        "profile": {"profile": "profiles/server"},
        "profile_of_few": {"profile": "profiles/workload"},
        "expired": {"state": pb.CERTIFICATE_STATE_EXPIRED},
        "revoked": {"state": pb.CERTIFICATE_STATE_REVOKED},
        "identity": {"identity": identity},
    }
    files = channel_credentials.read(context)
    address = context.endpoint("ca")
    with grpc.secure_channel(
        address, files.channel_credentials(), channel_credentials.channel_options(context, "ca")
    ) as channel:
        stub = stubs.CertificateServiceStub(channel)
        for name, wanted in filters.items():
            found[f"page_{name}"] = _pages(stub, wanted)
    return found


def _pages(stub: stubs.CertificateServiceStub, wanted: dict[str, Any]) -> dict[str, float]:
    """Measure pages from the first one on."""
    token = [""]

    def fetch() -> None:
        request = pb.ListCertificatesRequest(page_size=PAGE, page_token=token[0], **wanted)
        token[0] = stub.ListCertificates(request, timeout=60).next_page_token

    return _timed([fetch] * PAGES)


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


def main(arguments: Sequence[str]) -> int:
    """Measure, print one JSON object and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m keyreeve_bench.filled", description="Compare a filled ledger with an empty one."
    )
    parser.add_argument("--certificates", type=int, default=20_000_000)
    parser.add_argument("--database", choices=DATABASES, default="sqlite")
    parser.add_argument("--duration", type=float, default=10.0, help="seconds of each run")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument(
        "--only", action="append", default=[], choices=tuple(_KINDS), help="both kinds of calls unless given"
    )
    given = parser.parse_args(arguments)
    try:
        # Not below the working directory: PostgreSQL's own user has to reach it, and socket names are short.
        with tempfile.TemporaryDirectory(prefix="keyreeve-bench-", ignore_cleanup_errors=True) as name:
            Path(name).chmod(0o711)
            place = Place(
                given.database, Path(name), Path(), given.duration, given.runs, given.certificates, tuple(given.only)
            )
            found = scenario_report("filled", place, run)
    except KeyreeveError as error:
        print_error(error_text(error))
        return exit_code(error)
    sys.stdout.write(json.dumps(found, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
