"""Shared fixtures: Hypothesis profiles, the directory of a test run, and the databases."""

import gc
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from support.control_plane import stop_shared_control_planes
from support.databases import (
    ca_bench,
    ca_database,
    postgresql_database,
    postgresql_server,
    sqlite_database,
)
from support.migrated import SHARED_DIRECTORY
from support.postgres import stop_shared_server
from support.programs import find_program
from support.time_limits import phase_limit

__all__ = ["ca_bench", "ca_database", "postgresql_database", "postgresql_server", "sqlite_database"]

IN_MEMORY = Path("/dev/shm")
LEAST_MEMORY = 4 * 2**30

# Every process of a run would compile all modules, and rewrite the assertions of all tests, for itself.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

settings.register_profile("fixed", derandomize=True, database=None, deadline=None)
settings.register_profile("random", derandomize=False, database=None, deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))


def pytest_configure(config: pytest.Config) -> None:
    # pytest-xdist's workers inherit the environment of the process that starts them.
    if not hasattr(config, "workerinput"):
        use_memory()
        os.environ[SHARED_DIRECTORY] = tempfile.mkdtemp(prefix="keyreeve-tests-")
        # Sockets of deep state directories lie here; their directories outlive the services.
        os.environ["XDG_RUNTIME_DIR"] = os.environ[SHARED_DIRECTORY]


def use_memory() -> None:
    """Make temporary files in memory where there is enough of it.

    A commit of SQLite waits about 10 ms for a disk. What is killed here are processes, never the machine: what they have
    written to the kernel is not lost.
    """
    if "TMPDIR" in os.environ or not IN_MEMORY.is_dir():
        return
    found = os.statvfs(IN_MEMORY)
    if found.f_bavail * found.f_frsize >= LEAST_MEMORY and not found.f_flag & os.ST_NOEXEC:
        os.environ["TMPDIR"] = str(IN_MEMORY)
        tempfile.tempdir = None  # it is asked for again


def pytest_unconfigure(config: pytest.Config) -> None:
    shared = os.environ.get(SHARED_DIRECTORY)
    if not hasattr(config, "workerinput") and shared is not None:
        stop_shared_control_planes(Path(shared))
        stop_shared_server(Path(shared))
        shutil.rmtree(shared, ignore_errors=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    with phase_limit(item):
        for mark in item.iter_markers("needs"):
            for name in mark.args:
                find_program(name)
        yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    with phase_limit(item):
        yield


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # First, for the markers are what pytest selects by.
    for item in items:
        if item.get_closest_marker("timed") or (item.get_closest_marker("sqlite_first") and "postgresql" in item.name):
            item.add_marker("faults")
        if any(database in item.name for mark in item.iter_markers("thorough_on") for database in mark.args):
            item.add_marker("thorough")


def pytest_collection_finish() -> None:
    # Thousands of tests that live as long as the run: nothing that a collection should walk again and again.
    gc.collect()
    gc.freeze()
    # Collections as often as usual took a tenth of the processor: what the shared CAs keep lives as long, too.
    gc.set_threshold(100_000, 50, 100)
