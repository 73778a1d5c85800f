"""Which files of ours a call passes on the service's side, in all processes, in the order in which it enters them.

Only functions that are called count, not what a module runs when it is imported. What processes do by themselves is told
apart by looking at an idle control plane first: a function that was entered then, from the same task, does not count.
"""

import mmap
import os
import statistics
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from keyreeve import Client, Context
from support.control_plane import CA_ALONE
from support.waiting import wait_for

RECORDER = Path(__file__).parent / "recorder"
IDLE_SECONDS = 3.0
"""Longer than the period of any background job that comes often."""
WARMING_CALLS = 10
CALLS = 15

LAYERS = (
    ("servicer", ("servicer.py", "/messages.py", "/mutation.py")),
    ("ledger", ("/sql.py", "/ledger/", "/store/", "/database/", "/trust_tables/", "/chains.py", "/ipc.py")),
    ("guard", ("/guard/", "/telemetry/", "/trail.py", "/worker.py", "/known_revocations.py", "/pending_tokens.py")),
)
"""Layers by parts of the names of their files, the first that fits; what fits none is a use case or one of its rules."""
TRANSPORT = ("keyreeve_chassis/rpc/", "keyreeve_chassis/token_bucket.py")
"""gRPC over HTTP/2 and its limits, which were grpcio's before: told apart, so that figures of before and after compare."""
SHARED = {
    "keyreeve/": "the SDK's names and formats",
    "keyreeve_chassis/guard/call.py": "the call itself, which the guard hands down",
    "keyreeve_chassis/guard/admission.py": "bounds work in progress, of calls and of certificates",
    "keyreeve_chassis/processes/lifecycle.py": "the clock",
    "keyreeve_ca/store/sql.py": "the transaction itself, which the store hands to the use case",
    "keyreeve_chassis/trust_tables/sql.py": "the transaction's trust tables, made with it",
}
"""Files of no layer: what several layers hold or ask, and why."""


class Event(NamedTuple):
    """A function was entered (`+`) or has ended (`-`); `root` is the outermost function of ours in that step of a task."""

    window: int
    time: int
    process: int
    kind: str
    file: str
    function: str
    root: str


@dataclass(frozen=True)
class Passed:
    """What a call passes."""

    files: tuple[str, ...]
    """In the order of their first functions, without the transport's."""
    transport: tuple[str, ...]
    """The transport's, in the same order."""
    entered_again: tuple[str, ...]
    """Files that were entered again, on the way to the turning point, after they had been left for another layer."""


@contextmanager
def recorded_control_plane(directory: Path) -> Iterator["Recorder"]:
    """A control plane of its own in an empty directory, on SQLite, of which every process is recorded."""
    records = directory / "records"
    records.mkdir()
    (records / "window").write_bytes(b"\0")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("KEYREEVE_")}
    environment |= {"PYTHONPATH": f"{RECORDER.parents[1]}"}
    recorded = environment | {"KEYREEVE_TEST_RECORDER": str(records), "PYTHONPATH": f"{RECORDER}:{RECORDER.parents[1]}"}
    keyreeve = [sys.executable, "-m", CA_ALONE]
    subprocess.run([*keyreeve, "up", "--port", "0"], cwd=directory, env=recorded, check=True, capture_output=True)
    try:
        with (
            (records / "window").open("r+b") as file,
            Client(Context.load(directory / ".keyreeve" / "context.json")) as client,
        ):
            yield Recorder(records, mmap.mmap(file.fileno(), 1), client)
    finally:
        subprocess.run([*keyreeve, "down"], cwd=directory, env=environment, check=True, capture_output=True)


class Recorder:
    """Opens windows on a control plane and reads what was recorded in them."""

    def __init__(self, records: Path, window: mmap.mmap, client: Client) -> None:
        self.client = client
        self._records = records
        self._window = window
        self._last = 0

    def passed_by(self, call: Callable[[Client], object], turning_point: str) -> Passed:
        """What most of several such calls, one after the other, pass.

        From the last function of the file at the turning point on, everything is the way back.
        """
        for _ in range(WARMING_CALLS):
            call(self.client)
        until = time.monotonic() + IDLE_SECONDS
        idle_window = self._open()
        wait_for("background jobs had their turn", lambda: time.monotonic() > until)
        self._window[0] = 0
        windows = [self._record(call) for _ in range(CALLS)]
        idle, found = set(), defaultdict(list)
        for event in self._events():
            if event.window == idle_window:
                idle.add(event[4:])
            elif event.window in windows:
                found[event.window].append(event)
        calls = [[e for e in found[window] if e.kind == "-" or e[4:] not in idle] for window in windows]
        files = _files_of(calls)
        return Passed(
            tuple(file for file in files if not file.startswith(TRANSPORT)),
            tuple(file for file in files if file.startswith(TRANSPORT)),
            _entered_again(calls, turning_point),
        )

    def _open(self) -> int:
        self._last += 1
        self._window[0] = self._last
        return self._last

    def _record(self, call: Callable[[Client], object]) -> int:
        window = self._open()
        call(self.client)
        self._window[0] = 0
        return window

    def _events(self) -> list[Event]:
        events = []
        for file in self._records.glob("*.calls"):
            for line in file.read_text().splitlines():
                window, moment, process, *names = line.split("\t")
                events.append(Event(int(window), int(moment), int(process), *names))
        return sorted(events, key=lambda event: event.time)


def _files_of(calls: list[list[Event]]) -> tuple[str, ...]:
    """The files that most of the calls enter, in the usual order."""
    first: dict[str, list[int]] = defaultdict(list)
    for events in calls:
        seen: dict[str, int] = {}
        for event in events:
            if event.kind == "+":
                seen.setdefault(event.file, event.time - events[0].time)
        for file, moment in seen.items():
            first[file].append(moment)
    usual = {file: moments for file, moments in first.items() if 2 * len(moments) > len(calls)}
    return tuple(sorted(usual, key=lambda file: statistics.median(usual[file])))


def _entered_again(calls: list[list[Event]], turning_point: str) -> tuple[str, ...]:
    counted = Counter(file for events in calls for file in _entered_again_in(events, turning_point))
    return tuple(sorted(file for file, times in counted.items() if 2 * times > len(calls)))


def _entered_again_in(events: list[Event], turning_point: str) -> set[str]:
    """Files of which a function was called in a process, all had ended, others of another layer began, and one is called."""
    turn = max((at for at, event in enumerate(events) if event.file == turning_point), default=len(events))
    running: Counter[tuple[int, str]] = Counter()
    left: dict[tuple[int, str], set[str]] = {}
    """Of files that have been left, the layers of those entered since."""
    again = set()
    for event in events[:turn]:
        key, layer = (event.process, event.file), layer_of(event.file)
        if layer is None:
            continue
        if event.kind == "-":
            if running[key]:
                running[key] -= 1
                if not running[key]:
                    left[key] = set()
            continue
        if left.pop(key, set()) - {layer}:
            again.add(event.file)
        running[key] += 1
        for other, layers in left.items():
            if other[0] == event.process:
                layers.add(layer)
    return again


def layer_of(file: str) -> str | None:
    """The layer of a file; None for those of no layer."""
    if file.startswith((*TRANSPORT, *SHARED)):
        return None
    return next((layer for layer, parts in LAYERS if any(part in f"/{file}" for part in parts)), "use case")
