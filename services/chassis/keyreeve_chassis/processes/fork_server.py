"""The fork server: a process that has imported what the others need, and from which each of them is forked.

Nine tenths of a process's start are importing, and most of its memory is what was imported. Forked, the processes start
at once and share it. So that forking is safe, this one has one thread, has never used gRPC or a database, and has read
neither settings nor keys: its child does all that, and begins like a fresh process. What it is asked comes over a socket
on its standard input, from the manager; it ends when the manager does. See docs/adr/0016-fork-server.md.
"""

import array
import ctypes
import gc
import importlib
import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from keyreeve_chassis.standard_output import keep_service_output

NAME = "fork_server"
READY = b"ready"
LONGEST_REQUEST = 65_536
"""Octets."""
_STANDARD_INPUT, _STANDARD_OUTPUT = 0, 1
_ARGUMENTS_START = 47
"""Which word of /proc/self/stat (proc(5)) tells where this process's arguments lie in its memory."""
_OF_THE_MANAGER = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
_COMMAND_FILE = Path("/proc/self/comm")
COMMAND_LENGTH = 15
"""Characters that the kernel keeps of a process's name (proc(5), `comm`)."""
_THREADS = Path("/proc/self/task")


class NotAlone(Exception):
    """This process has several threads and must not fork: a lock of another thread would stay held."""


def show_as(service: str, role: str) -> None:
    """Set the kernel's name of this process (`ps -o comm`), such as `kr-ca-worker-0`, cut to 15 bytes."""
    with suppress(OSError):  # a sandbox may not let it; nothing depends on it
        _COMMAND_FILE.write_bytes(f"kr-{service}-{role}"[:COMMAND_LENGTH].encode())


def serve(service: str, run: Callable[[Sequence[str]], int], imported: Sequence[str]) -> int:
    """Fork a process for each request, which runs `run(arguments)`, until the manager is gone; the exit code."""
    show_as(service, NAME)
    # They are for the manager, and may reach its whole group; it still needs a fork server when it has heard them.
    before = {number: signal.signal(number, signal.SIG_IGN) for number in _OF_THE_MANAGER}
    gc.disable()  # what is imported stays, and would only be looked at again and again
    from keyreeve_chassis.telemetry import metrics

    metrics.wait_for_fork()
    for name in imported:
        importlib.import_module(name)
    # What there is by now is never looked at by a child's garbage collector, which would make it a copy of its own.
    gc.freeze()
    manager = socket.socket(fileno=_STANDARD_INPUT)
    with suppress(ConnectionError):  # the manager is gone
        manager.send(READY)
        while True:
            asked, descriptors = _receive(manager)
            if not asked:
                break
            answer: dict[str, Any]
            try:
                answer = {"pid": _fork()}
            except (OSError, NotAlone) as failed:
                answer = {"refused": str(failed)}
            if answer.get("pid") == 0:
                code = 1
                try:
                    manager.detach()  # its descriptor becomes another one's
                    for number in (signal.SIGINT, signal.SIGTERM):
                        signal.signal(number, before[number])
                    code = _become(service, json.loads(asked), descriptors, run)
                finally:
                    os._exit(code)
            for descriptor in descriptors:
                os.close(descriptor)
            manager.send(json.dumps(answer).encode())
    return 0


def _receive(manager: socket.socket) -> tuple[bytes, list[int]]:
    received = array.array("i")
    asked, others, _, _ = manager.recvmsg(LONGEST_REQUEST, socket.CMSG_SPACE(2 * received.itemsize))
    for level, kind, content in others:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            received.frombytes(content)
    return asked, list(received)


def _fork() -> int:
    """Fork a process whose parent is the manager; return 0 in that process.

    It is the child of a child that ends at once, and the manager takes the children of those that end
    (PR_SET_CHILD_SUBREAPER). So it outlives this process, and its exit code is the manager's to collect.
    """
    if len(list(_THREADS.iterdir())) != 1:
        raise NotAlone("the fork server has threads and is not forked")
    told, tell = os.pipe()
    between = os.fork()
    if between == 0:
        pid = -1
        try:
            pid = os.fork()
            if pid:
                os.write(tell, str(pid).encode())
        finally:
            if pid:
                os._exit(0)
        os.close(told)
        os.close(tell)
        return 0
    os.close(tell)
    answer = os.read(told, 16)
    os.close(told)
    os.waitpid(between, 0)  # when it is gone, the process is the manager's
    if not answer:
        raise OSError("a process could not be made")
    return int(answer)


def _become(
    service: str, asked: dict[str, Any], descriptors: Sequence[int], run: Callable[[Sequence[str]], int]
) -> int:
    """Set up a new process's streams, environment and name, and run it; the exit code."""
    from keyreeve_chassis.telemetry import metrics

    keep_service_output()
    for place, descriptor in zip((_STANDARD_INPUT, _STANDARD_OUTPUT), descriptors, strict=True):
        os.dup2(descriptor, place)
        os.close(descriptor)
    gc.enable()
    os.environ.update(asked["environment"])
    metrics.count_here()
    show_as(service, asked["name"])
    _show_in_arguments(asked["arguments"][0])
    sys.argv[1:] = asked["arguments"]
    try:
        code = run(asked["arguments"])
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except BaseException:  # noqa: BLE001 - whatever it is, this process must not go on as the fork server
        sys.excepthook(*sys.exc_info())
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def _show_in_arguments(role: str) -> None:
    """Overwrite this process's arguments with the role, for `ps`; a longer role is left out."""
    words = Path("/proc/self/cmdline").read_bytes().split(b"\0")
    if NAME.encode() not in words or len(role.encode()) > len(NAME):
        return
    place = sum(len(word) + 1 for word in words[: words.index(NAME.encode())])
    # The second word is in parentheses and may hold blanks.
    stat = Path("/proc/self/stat").read_text().rpartition(") ")[2].split()
    start = int(stat[_ARGUMENTS_START - 2])
    if start:  # not shown to a process that may not be looked into
        ctypes.memmove(start + place, role.encode().ljust(len(NAME), b"\0"), len(NAME))
