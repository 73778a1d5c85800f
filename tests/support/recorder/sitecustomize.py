"""Record which functions of our packages each process of the CA enters and leaves, while a window is open.

Python runs this file when it starts with this directory in PYTHONPATH; support/passed_files.py opens windows and reads
the records.
"""

import asyncio.events
import mmap
import opcode
import os
import sys
import threading
import time
from pathlib import Path
from types import CodeType, FrameType
from typing import NamedTuple

DIRECTORY = "KEYREEVE_TEST_RECORDER"
"""Environment variable that names the directory of `window` and of the records, one file for each process."""
PACKAGES = ("/keyreeve/", "/keyreeve_chassis/", "/keyreeve_ca/")
GENERATED = ("_pb2.py", "_pb2_grpc.py")
_RESUME, _YIELD = opcode.opmap["RESUME"], opcode.opmap["YIELD_VALUE"]
_STEP = asyncio.events.Handle._run.__code__
"""Below this frame is what the loop calls, or a step of a task."""


class Place(NamedTuple):
    """Where a function of ours is."""

    file: str
    begin: int
    """The instruction at which a call of it begins; a coroutine that goes on is further."""


def record(directory: Path) -> None:
    """Begin to record in this process."""
    with (directory / "window").open("rb") as file:
        window = mmap.mmap(file.fileno(), 1, prot=mmap.PROT_READ)
    places: dict[CodeType, Place | None] = {}

    def place(code: CodeType) -> Place | None:
        if code not in places:
            name = code.co_filename
            package = next((package for package in PACKAGES if package in name), None)
            places[code] = None
            if package is not None and not name.endswith(GENERATED):
                begin = next(at for at in range(0, len(code.co_code), 2) if code.co_code[at] == _RESUME)
                places[code] = Place(name[name.rindex(package) + 1 :], begin)
        return places[code]

    def root_of(frame: FrameType) -> str:
        """The outermost function of ours in this step of a task, callback or thread."""
        root, above = frame, frame.f_back
        while above is not None and above.f_code is not _STEP:
            if place(above.f_code) is not None:
                root = above
            above = above.f_back
        return root.f_code.co_qualname

    def profile(frame: FrameType, event: str, _argument: object) -> None:
        number = window[0]
        if not number or event not in {"call", "return"}:
            return
        found = place(frame.f_code)
        if found is None:
            return
        if event == "call":
            if frame.f_lasti <= found.begin:
                write(number, "+", found.file, frame.f_code.co_qualname, root_of(frame))
        elif frame.f_code.co_code[frame.f_lasti] != _YIELD:
            write(number, "-", found.file, frame.f_code.co_qualname, "")

    def write(number: int, *words: str) -> None:
        line = "\t".join((str(number), str(time.monotonic_ns()), str(os.getpid()), *words)) + "\n"
        file = os.open(directory / f"{os.getpid()}.calls", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.write(file, line.encode())
        os.close(file)

    threading.setprofile(profile)
    sys.setprofile(profile)


if DIRECTORY in os.environ and "keyreeve_ca" in sys.orig_argv:
    record(Path(os.environ[DIRECTORY]))
