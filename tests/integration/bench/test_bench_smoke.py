"""Short benchmarks against a control plane of real processes on both databases; speed is not checked."""

import json
import os
import random
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from keyreeve.cli.supervision.local_services import write_config
from keyreeve_bench.acknowledgements import read
from support.control_plane import CA, ControlPlane
from support.postgres import Server
from support.waiting import wait_for

SHORT = ("--duration", 1, "--warm-up", 0.2, "--runs", 1, "--limit-seconds", 0.2, "--json", "--quiet")


@pytest.fixture(params=["sqlite", "postgresql"], scope="module")
def control_plane(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    made = ControlPlane(tmp_path_factory.mktemp("bench"))
    made.state_directory.make()
    write_config(made.state_directory, CA, trust_domain="dev.localhost", first_port=0, rng=random.SystemRandom())
    if request.param == "postgresql":
        server: Server = request.getfixturevalue("postgresql_server")
        name = f"bench_{uuid.uuid4().hex}"
        server.execute(f"CREATE DATABASE {name}")
        config = made.state_directory.config("ca")
        config.write_text(config.read_text().replace("sqlite:///ca.db", server.url(name)))
    made.up()
    yield made
    made.down()


def checked(report: Any) -> None:
    assert {check["check"]: check["ok"] for check in report["checks"]} == {
        "ledger": True,
        "serial numbers": True,
        "audit log": True,
        "openssl verify": True,
    }, report["checks"]


@pytest.mark.thorough_on("postgresql")
@pytest.mark.faults
def test_a_bench_of_single_calls_measures_and_checks_itself(control_plane: ControlPlane) -> None:
    done = control_plane.run(
        "bench",
        "sign",
        *SHORT,
        "--require",
        "errors<=0",
        "--require",
        "unary>0signing-limit",
        "--require",
        "pss<=400MB",
    )
    assert done.code == 0, done.err + done.out
    report = done.document
    checked(report)
    assert all(value > 0 for value in report["certificates_per_second"].values())
    assert all(value > 0 for value in report["latency_ms"].values())
    assert report["signing_limit_per_second"] > report["combined_bound_per_second"] > 0
    assert report["echo_rate_per_second"] > report["combined_bound_per_second"]
    assert report["errors"] == []
    assert report["cpu_us_per_certificate"]["server"] > 0
    assert report["rss_bytes"]["server"] > report["pss_bytes"]["server"] > 0
    database = report["database"]["kind"].split()[0]
    assert (report["cpu_us_per_certificate"]["database"] is not None) is (database == "postgresql")


@pytest.mark.thorough_on("sqlite")
@pytest.mark.faults
def test_a_bench_of_batches_of_all_kinds_of_keys_fails_its_threshold(control_plane: ControlPlane) -> None:
    options = ("--batch", 20, "--in-flight", 4, "--keys", "mix", "--require", "batch>=100signing-limit")
    done = control_plane.run("bench", "sign", *SHORT, *options)
    assert done.code == 1, done.err + done.out
    checked(done.document)
    assert [one["met"] for one in done.document["requirements"]] == [False]
    assert done.document["runs"][0]["certificates_by_second"][0] > 0


@pytest.mark.thorough_on("sqlite")
@pytest.mark.faults
def test_killed_workers_cost_a_repeating_client_nothing(control_plane: ControlPlane, tmp_path: Path) -> None:
    file = tmp_path / "acknowledged"
    options = ("--repeat", "--acknowledgements", file, "--duration", 3, "--in-flight", 8)
    command = [sys.executable, "-m", "keyreeve.cli", "bench", "sign", *SHORT, *options]
    bench = subprocess.Popen(
        [str(part) for part in command],
        cwd=control_plane.directory,
        env=os.environ | {"KEYREEVE_CONTEXT": str(control_plane.state_directory.context)},
        stdout=subprocess.PIPE,
    )
    wait_for("certificates are acknowledged", lambda: file.exists() and file.stat().st_size > 20_000)
    for worker in control_plane.children()["worker"]:  # all: a bench's connections may all be with one of them
        os.kill(worker, signal.SIGKILL)
    out, _ = bench.communicate(timeout=60)
    report = json.loads(out)
    checked(report)
    assert bench.returncode == 0
    assert report["runs"][0]["repeated"] > 0
    kept = list(read(file))
    assert len({one.serial for one in kept}) == len(kept) >= report["runs"][0]["certificates_by_second"][0]


@pytest.mark.faults
def test_a_caller_that_may_not_issue_is_refused_before_the_measurement(control_plane: ControlPlane) -> None:
    done = control_plane.run("bench", "sign", *SHORT, "--profile", "array-peer")
    assert done.code == 4, done.err + done.out
    assert json.loads(done.err)["error"]["reason"] == "PROFILE_NOT_ALLOWED"
