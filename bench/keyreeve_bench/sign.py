"""`keyreeve bench sign`: measures the machine's limits and the service in turn, and checks the certificates."""

import asyncio
import statistics
import tempfile
from contextlib import AsyncExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import grpc

from keyreeve import Client, channel_credentials
from keyreeve.cli.reference_commands import versions
from keyreeve.cli.supervision.state_directory import StateDirectory
from keyreeve.context import Context
from keyreeve.errors import FileUnusable
from keyreeve.request_ids import new_request_id
from keyreeve.status import error_from_rpc
from keyreeve_bench import baselines, corpus, disk, messages, openssl, overloading, plot, session
from keyreeve_bench.bench import Bench
from keyreeve_bench.checks import Check, Issued, check_audit, check_ledger, check_openssl, check_unique, last_checkpoint
from keyreeve_bench.echo import echo_service
from keyreeve_bench.ledger import Ledger, LedgerUnreadable, open_ledger
from keyreeve_bench.local_processes import machine, server_group
from keyreeve_bench.progress import Progress
from keyreeve_bench.reads import measure_reads
from keyreeve_bench.recording import Tally, percentiles_ms
from keyreeve_bench.report import report_of
from keyreeve_bench.session import MEASURED, WARM_UP, Step
from keyreeve_bench.settings import BenchSettings
from keyreeve_bench.signing_limit import key_type_of, measure_signing_limit
from keyreeve_bench.thresholds import Threshold

UNARY_IN_FLIGHT = 64
"""Calls in flight for the echo rate when the benchmark is an open loop or uses batches."""
SWEEP = (0.1, 0.25, 0.4, 0.55, 0.7, 0.8, 0.9, 1.0, 1.15)
"""Offered load at the points of the plot, relative to the capacity."""
SWEEP_IN_FLIGHT = 512


async def bench_sign(settings: BenchSettings) -> dict[str, Any]:
    """Run the benchmark; `ok` in its report says whether all checks and thresholds hold. Raises `keyreeve.errors`."""
    thresholds = [Threshold.parse(text) for text in settings.require]
    progress = Progress(silent=not settings.progress)
    context = Context.load(settings.context)
    assert context.path is not None
    state_directory = StateDirectory.at(context.path.parent)
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="keyreeve-bench-")))
        progress.step("making certificate requests")
        csrs = corpus.make_corpus(settings.keys, settings.dns_suffix)
        corpus.save(directory / "corpus", csrs)
        answer = await asyncio.to_thread(_one_call, context, settings.profile, csrs[0])
        ledger, note = _ledger_of(state_directory, settings)
        bench = Bench(
            settings,
            context,
            progress,
            directory / "corpus",
            answer,
            server_group(state_directory, settings.server_pid),
            ledger,
        )
        bench.checkpoint = await asyncio.to_thread(last_checkpoint, context)
        facts = await asyncio.to_thread(_facts, bench, state_directory, note)
        started = {name: await baselines.start(name, directory, csrs, stack) for name in settings.compare}
        (directory / "echo").mkdir()
        workers = len(bench.server.only("worker").processes()) if bench.server else 0
        echo = await stack.enter_async_context(echo_service(directory / "echo", answer, workers or machine_cores()))
        await _measure_limits(bench, echo)
        best = {name: await _best_in_flight(bench, name, baseline) for name, baseline in started.items()}
        for number in range(settings.runs):
            await _run(bench, number)
            for name, baseline in started.items():
                told = await _run_baseline(bench, baseline, best[name], f"{name}, run {number + 1} of {settings.runs}")
                bench.baselines.setdefault(name, []).append(told)
            await _measure_limits(bench, echo)
        if settings.overload:
            await _overload(bench)
        if settings.plot:
            await _sweep(bench)
        progress.step("checking")
        checks = await asyncio.to_thread(_check, bench)
        progress.step("reading")
        serials = b"".join(outcome.serials for outcome in bench.outcomes)
        with Client(context) as client:
            facts["reads_ms"] = await asyncio.to_thread(measure_reads, client, serials)
        told_of = {name: f"{one.settings}, {best[name]} in flight" for name, one in started.items()}
        document = report_of(bench, facts, checks, told_of)
    document["requirements"] = [threshold.check(document) for threshold in thresholds]
    document["ok"] = all(check.ok for check in checks) and all(one["met"] for one in document["requirements"])
    if settings.plot:
        _write_plot(Path(settings.plot), bench.points, settings)
    progress.done("checked")
    return document


def machine_cores() -> int:
    """Number of cores of this machine."""
    return int(str(machine()["cores"]))


def _one_call(context: Context, profile: str, csr: bytes) -> bytes:
    """Issue one certificate, so that a wrong configuration fails before the measurements."""
    files = channel_credentials.read(context)
    request = messages.with_request_id(messages.prepare(profile, [csr], 1)[0], new_request_id())
    address = context.endpoint("ca")
    with grpc.secure_channel(
        address, files.channel_credentials(), channel_credentials.channel_options(context, "ca")
    ) as channel:
        try:
            answer: bytes = channel.unary_unary(messages.UNARY)(request, timeout=20.0)  # type: ignore[arg-type]  # no serializer: octets
        except grpc.RpcError as failure:
            raise error_from_rpc(failure, f"ca at {address}") from None
    return answer


def _ledger_of(state_directory: StateDirectory, settings: BenchSettings) -> tuple[Ledger | None, str]:
    try:
        return open_ledger(state_directory, settings.database), ""
    except LedgerUnreadable as why:
        return None, str(why)


def _facts(bench: Bench, state_directory: StateDirectory, note: str) -> dict[str, Any]:
    """Facts about the machine and the database before the load."""
    rows: int | None = None
    if bench.ledger is not None:
        try:
            rows = bench.ledger.rows()
        except LedgerUnreadable as why:
            note = str(why)
    fsync = None
    for directory in (bench.ledger.directory if bench.ledger else None, state_directory.state("ca")):
        try:
            if directory is not None and fsync is None:
                measured = asdict(disk.measure(directory, bench.settings.limit_seconds))
                fsync = {"median": measured.pop("fsync_us"), "p99": measured.pop("fsync_p99_us")} | measured
        except OSError:
            continue  # PostgreSQL's data directory is often not readable
    return {
        "machine": machine(),
        "database": {"kind": bench.ledger.kind if bench.ledger else None, "rows_before": rows, "note": note},
        "fsync_us": fsync,
        "versions": versions() | {"openssl": openssl.release()},
    }


async def _run(bench: Bench, number: int) -> None:
    settings = bench.settings
    rate = None if settings.rate is None else settings.rate / settings.batch
    warm_up = [Step(WARM_UP, settings.warm_up, settings.in_flight, rate)] if settings.warm_up else []
    load = bench.load(*warm_up, Step(MEASURED, settings.duration, settings.in_flight, rate))
    name = f"run {number + 1} of {settings.runs}"
    bench.progress.step(name)
    outcome = await session.run(load, watched=bench.watched(), show=bench.progress.live(name))
    bench.outcomes.append(outcome)
    bench.all.append(outcome)
    told = outcome.measured
    bench.progress.done(f"{name}: {told.rate:,.0f} certificates/s, p99 {told.latency_ms()['p99']:,.1f} ms")


async def _best_in_flight(bench: Bench, name: str, baseline: baselines.Baseline) -> int:
    """The number of requests in flight at which a baseline signs the most."""
    rates = {}
    for count in baselines.IN_FLIGHT:
        rates[count] = (await _run_baseline(bench, baseline, count, f"{name} with {count} in flight")).rate
    return max(rates, key=rates.__getitem__)


async def _run_baseline(bench: Bench, baseline: baselines.Baseline, in_flight: int, what: str) -> Tally:
    settings = bench.settings
    steps = [Step(WARM_UP, settings.warm_up, in_flight)] if settings.warm_up else []
    steps.append(Step(MEASURED, settings.duration, in_flight))
    bench.progress.step(what)
    load = await asyncio.to_thread(baseline.load, settings, steps, in_flight)
    told = (await session.run(load, watched={}, show=bench.progress.live(what))).measured
    bench.progress.done(f"{what}: {told.rate:,.0f} certificates/s, p99 {told.latency_ms()['p99']:,.1f} ms")
    return told


async def _measure_limits(bench: Bench, echo: Path) -> None:
    settings = bench.settings
    bench.progress.step("measuring the limits of this machine")
    key = key_type_of(messages.certificates_in(bench.answer, 1)[0][1][0])
    signing_limit = await measure_signing_limit(bench.corpus_file, key, machine_cores(), settings.limit_seconds)
    in_flight = settings.in_flight if settings.batch == 1 and settings.rate is None else UNARY_IN_FLIGHT
    steps = [
        Step(WARM_UP, settings.limit_seconds / 2, in_flight),
        Step(MEASURED, settings.limit_seconds, in_flight),
    ]
    load = replace(bench.load(*steps), context=echo, batch=1, client="grpc", acknowledgements=None, keeps_serials=False)
    echoed = await session.run(load, watched={}, show=lambda *_: None)
    bench.echo_client = f"grpcio {grpc.__version__}, {load.processes} processes, {in_flight} in flight"
    bench.signing_limits.append(signing_limit)
    bench.echo_rates.append(echoed.measured.rate)
    bench.progress.done(f"signing limit {signing_limit:,.0f}/s, echo rate {echoed.measured.rate:,.0f}/s")


def _capacity(bench: Bench) -> float:
    """Median rate of the runs, in certificates per second."""
    return statistics.median(outcome.measured.rate for outcome in bench.outcomes)


async def _overload(bench: Bench) -> None:
    capacity = _capacity(bench)
    bench.progress.step("overload")
    load = bench.load(*overloading.steps(bench.settings, capacity))
    outcome = await session.run(load, watched={}, show=bench.progress.live("overload"))
    bench.all.append(outcome)
    bench.overload = overloading.Overload(capacity, outcome.measured, outcome.phases[overloading.AFTER])
    refused = percentiles_ms(outcome.measured.refusals)["p99"]
    bench.progress.done(f"overload: {outcome.measured.rate:,.0f} certificates/s, p99 of refusals {refused:,.1f} ms")


async def _sweep(bench: Bench) -> None:
    """Run open loops at increasing rates, up to more than the capacity."""
    settings = bench.settings
    capacity = _capacity(bench)
    for part in SWEEP:
        rate = capacity * part
        steps = [
            Step(WARM_UP, 1.0, SWEEP_IN_FLIGHT, rate / settings.batch),
            Step(MEASURED, settings.sweep_seconds, SWEEP_IN_FLIGHT, rate / settings.batch),
        ]
        name = f"open loop at {rate:,.0f}/s"
        bench.progress.step(name)
        outcome = await session.run(bench.load(*steps), watched={}, show=bench.progress.live(name))
        bench.all.append(outcome)
        told, latency = outcome.measured, outcome.measured.latency_ms()
        failed = sum(told.errors.values())
        bench.points.append(
            plot.Point(rate, told.rate, latency["p50"], latency["p99"], failed / max(1, failed + told.certificates))
        )
        bench.progress.done(f"{name}: {told.rate:,.0f} certificates/s, p99 {latency['p99']:,.1f} ms")


def _write_plot(file: Path, points: list[plot.Point], settings: BenchSettings) -> None:
    title = f"{settings.kind} calls" + (f" of {settings.batch}" if settings.batch > 1 else "")
    try:
        plot.write_plot(file, points, f"keyreeve: {title}, keys {settings.keys}")
    except OSError as problem:
        raise FileUnusable(f"cannot write {file}: {problem.strerror}") from problem


def _check(bench: Bench) -> list[Check]:
    issued = Issued(
        acknowledged=sum(outcome.acknowledged for outcome in bench.all),
        unknown=sum(outcome.unknown for outcome in bench.all),
        serials=b"".join(outcome.serials for outcome in bench.all),
        samples=[sample for outcome in bench.all for sample in outcome.samples],
        since=bench.since,
        marker=bench.marker,
    )
    with Client(bench.context) as client:
        return [
            check_ledger(issued, bench.settings, bench.ledger, client.certificates.get),
            check_unique(issued),
            check_audit(bench.checkpoint, client),
            check_openssl(issued, bench.context, bench.settings.batch),
        ]
