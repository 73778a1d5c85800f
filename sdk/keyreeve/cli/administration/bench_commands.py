"""`keyreeve bench`: run the load tool on the signing path.

The load tool is a program of its own.
"""

import importlib.util
import json
import subprocess
import sys
from enum import StrEnum
from typing import Annotated

import typer

from keyreeve.cli.completion import profile_names
from keyreeve.cli.exit_codes import Exit
from keyreeve.cli.options import ContextFile
from keyreeve.errors import PackageMissing

app = typer.Typer(help="Measure the signing path of a control plane, and a large array.", no_args_is_help=True)

_PARTS = ("keyreeve_bench", "hdrh", "psutil", "pygal", "structlog", "sqlalchemy")
"""The load tool, its packages, and those of the services that it measures parts of."""
_OPEN_LOOP_IN_FLIGHT = 1024


class Keys(StrEnum):
    """Keys of the requests."""

    P256 = "p256"
    P384 = "p384"
    RSA2048 = "rsa2048"
    ED25519 = "ed25519"
    MIX = "mix"


class Caller(StrEnum):
    """What calls."""

    GRPC = "grpc"
    SDK = "sdk"


class Baseline(StrEnum):
    """Other CAs to measure in the same session."""

    CFSSL = "cfssl"
    STEP_CA = "step-ca"


@app.command("sign")
def bench_sign(
    *,
    in_flight: Annotated[
        int | None,
        typer.Option("--in-flight", min=1, help="Calls at once. Default: 64; for an open loop at most 1024."),
    ] = None,
    connections: Annotated[int, typer.Option("--connections", min=1, help="Connections, over all processes.")] = 8,
    batch: Annotated[
        int, typer.Option("--batch", min=1, max=100, help="Certificates in a call; above 1 by SignCertificates.")
    ] = 1,
    rate: Annotated[
        float | None,
        typer.Option(
            "--rate",
            help="Open loop: certificates per second, whether or not answers come; latency counts from when a call was due.",
        ),
    ] = None,
    duration: Annotated[float, typer.Option("--duration", help="Seconds that are measured in each run.")] = 10.0,
    warm_up: Annotated[float, typer.Option("--warm-up", min=0, help="Seconds before them.")] = 2.0,
    runs: Annotated[
        int, typer.Option("--runs", min=1, help="Runs; the limits are measured before, between and after.")
    ] = 5,
    processes: Annotated[
        int, typer.Option("--processes", min=1, max=64, help="Client processes; one alone measures itself.")
    ] = 2,
    keys: Annotated[Keys, typer.Option("--keys", help="Keys of the requests, which are made beforehand.")] = Keys.P256,
    profile: Annotated[
        str, typer.Option("--profile", help="Profile to issue under.", autocompletion=profile_names)
    ] = "server",
    dns_suffix: Annotated[
        str, typer.Option("--dns-suffix", help="Names in the requests end in it; the profile has to allow them.")
    ] = "bench.example.test",
    client: Annotated[
        Caller, typer.Option("--client", help="`grpc`: prepared messages; `sdk`: sign() of the Python SDK.")
    ] = Caller.GRPC,
    coalesce: Annotated[
        bool, typer.Option("--coalesce/--no-coalesce", help="Whether the SDK may put waiting calls together.")
    ] = True,
    timeout: Annotated[float, typer.Option("--timeout", help="Deadline of a call, in seconds.")] = 30.0,
    repeat: Annotated[
        bool, typer.Option("--repeat", help="Repeat a call that failed for a while, with its request id.")
    ] = False,
    acknowledgements: Annotated[
        str | None,
        typer.Option(
            "--acknowledgements", metavar="FILE", help="Append every certificate to it, and fsync before going on."
        ),
    ] = None,
    overload: Annotated[
        float | None,
        typer.Option("--overload", metavar="SECONDS", help="Afterwards, offer three times as much for so long."),
    ] = None,
    compare: Annotated[
        list[Baseline] | None, typer.Option("--compare", help="Measure this program on PATH, too, in the same session.")
    ] = None,
    require: Annotated[
        list[str] | None,
        typer.Option(
            "--require",
            help="A threshold, such as 'unary>=1.8step-ca' or 'p99<=15ms'; exit code 1 when it is not met.",
        ),
    ] = None,
    plot: Annotated[
        str | None,
        typer.Option("--plot", metavar="FILE.svg", help="Go through growing rates afterwards, and draw the outcome."),
    ] = None,
    sweep_seconds: Annotated[float, typer.Option("--sweep-seconds", help="Seconds for each of these rates.")] = 5.0,
    limit_seconds: Annotated[
        float, typer.Option("--limit-seconds", help="Seconds for each measurement of the machine's limits.")
    ] = 1.0,
    server_pid: Annotated[
        int | None,
        typer.Option("--server-pid", help="Manager process of the service, unless `keyreeve up` started it."),
    ] = None,
    database: Annotated[
        str | None,
        typer.Option("--database", metavar="URL", help="The ledger, to be read, unless `keyreeve up` configured it."),
    ] = None,
    context: ContextFile = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout in place of the table.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.")] = False,
) -> int:
    """Measure throughput and latency of a control plane that signs certificates.

    The certificates are real: they stay in the ledger. Run it against an installation that is there to be measured. The
    machine's own limits are measured in between by the same library and the same gRPC; docs/load-testing.md tells how to
    read the result. Exit code 1: a check or a threshold failed.
    """
    return run_bench(
        {
            "context": None if context is None else str(context),
            "in_flight": in_flight or (64 if rate is None else _OPEN_LOOP_IN_FLIGHT),
            "connections": connections,
            "batch": batch,
            "rate": rate,
            "duration": duration,
            "warm_up": warm_up,
            "runs": runs,
            "processes": processes,
            "keys": keys.value,
            "profile": profile,
            "dns_suffix": dns_suffix,
            "client": client.value,
            "coalesce": coalesce,
            "timeout": timeout,
            "repeat": repeat,
            "acknowledgements": acknowledgements,
            "overload": overload,
            "compare": [baseline.value for baseline in compare or ()],
            "require": require or [],
            "plot": plot,
            "sweep_seconds": sweep_seconds,
            "limit_seconds": limit_seconds,
            "server_pid": server_pid,
            "database": database,
            "json": as_json,
            "progress": not quiet,
        }
    )


@app.command("members")
def bench_members(
    *,
    members: Annotated[int, typer.Option("--members", min=2, max=60_000, help="Members of the array.")] = 500,
    compare: Annotated[int, typer.Option("--compare", min=0, help="Members of a smaller array before; 0: none.")] = 100,
    database: Annotated[str, typer.Option("--database", help="sqlite or postgresql.")] = "sqlite",
    duration: Annotated[float, typer.Option("--duration", min=1, help="Seconds of the measurement at rest.")] = 30.0,
) -> None:
    """Measure an array of many members through a forced promotion, on a control plane of its own.

    Prints CPU time for each member, and the service's memory, as JSON.
    """
    arguments = ["--members", members, "--compare", compare, "--database", database, "--duration", duration]
    raise typer.Exit(_run_module("keyreeve_bench.members", *map(str, arguments)))


def run_bench(settings: dict[str, object]) -> int:
    """Run the load tool to its end; its exit code.

    Raises `PackageMissing` when it is not installed.
    """
    return _run_module("keyreeve_bench", json.dumps(settings))


def _run_module(module: str, *arguments: str) -> int:
    if missing := [part for part in _PARTS if importlib.util.find_spec(part) is None]:
        raise PackageMissing(
            f"the load tool is not installed here ({', '.join(missing)}): pip install 'keyreeve[bench,server,cli]'"
        )
    # A process of its own: the command line imports nothing of it, and it imports gRPC when it is good for measuring.
    command = [sys.executable, "-P", "-m", module, *arguments]
    try:
        return subprocess.run(command, check=False).returncode  # noqa: S603 (our own module)
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
