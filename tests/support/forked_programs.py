"""`keyreeve` as a process forked from one that has imported it: most of the time of a short command.

Run as a program it is that one: it listens on a Unix socket. A connection carries a JSON object with `arguments`,
`directory` and `environment`, and the files of standard input, output and error. The module runs as `__main__` in a new
process, whose id is the first answer and whose exit code is the second. Nothing may have used gRPC before the fork, and
nothing has.
"""

import gc
import importlib
import json
import os
import pkgutil
import runpy
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import typer.main

from support import ca_alone
from support.waiting import wait_for

_MOST_BYTES = 1 << 20
_STANDARD = (0, 1, 2)
_PROGRAMS: "list[subprocess.Popen[bytes]]" = []
"""What forks, one for each module: each ends when its standard input does, with this process."""


def run_forked(
    module: str,
    arguments: Sequence[str],
    directory: Path,
    environment: Mapping[str, str],
    *,
    given: bytes | None,
    timeout: float,
) -> tuple[int, bytes, bytes]:
    """Run `python -m module` in a directory; return the exit code, the output, and what it says on standard error."""
    order = {"arguments": list(arguments), "directory": str(directory), "environment": dict(environment)}
    with (
        tempfile.TemporaryFile() as stdin,
        tempfile.TemporaryFile() as stdout,
        tempfile.TemporaryFile() as stderr,
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection,
    ):
        stdin.write(given or b"")
        stdin.seek(0)
        connection.settimeout(timeout)
        connection.connect(str(_forking(module)))
        socket.send_fds(connection, [json.dumps(order).encode()], [one.fileno() for one in (stdin, stdout, stderr)])
        pid = int(connection.recv(64))
        try:
            code = int(connection.recv(64))
        except TimeoutError:
            os.kill(pid, signal.SIGKILL)
            raise
        for one in (stdout, stderr):
            one.seek(0)
        return code, stdout.read(), stderr.read()


@cache
def _forking(module: str) -> Path:
    """Start the forking program of a module, which ends with this process; returns its socket."""
    address = Path(tempfile.mkdtemp(prefix="kr-")) / "socket"
    command = [sys.executable, "-m", __name__, module, str(address)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    # Its standard streams are what a command's are: neither a terminal nor this process's.
    _PROGRAMS.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, env=environment))
    wait_for(f"the forking program of {module} listens", address.exists)
    return address


def _prepare() -> None:
    """Import what commands import when they run, and build the tree of all commands, which is the same each time."""
    package = importlib.import_module("keyreeve")
    for found in pkgutil.walk_packages(package.__path__, "keyreeve."):
        if not found.name.endswith("__main__"):
            importlib.import_module(found.name)
    typer.main.get_command = cache(typer.main.get_command)
    importlib.import_module("keyreeve.cli.program").run_command(["explain", "CONTEXT_INVALID"])


def _serve(module: str, address: str) -> None:
    if module == ca_alone.__name__:
        ca_alone.leave_the_ca_alone()
    _prepare()
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the processes that answer
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        new = f"{address}.new"
        listener.bind(new)
        listener.listen(16)
        Path(new).rename(address)
        while True:
            readable, _, _ = select.select([listener, sys.stdin], [], [])
            if sys.stdin in readable:
                shutil.rmtree(Path(address).parent)
                return
            connection, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                if _answer(connection):
                    break
                os._exit(0)
            connection.close()
    sys.modules.pop(module, None)
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _answer(connection: socket.socket) -> bool:
    """Fork the process of one command and tell of it; true in that process."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    content, files, _, _ = socket.recv_fds(connection, _MOST_BYTES, len(_STANDARD))
    order = json.loads(content)
    pid = os.fork()
    if pid == 0:
        for file, standard in zip(files, _STANDARD, strict=True):
            os.dup2(file, standard)
            os.close(file)
        connection.close()
        os.chdir(order["directory"])
        os.environ.clear()
        os.environ.update(order["environment"])
        sys.argv = ["keyreeve", *order["arguments"]]
        return True
    connection.send(str(pid).encode())
    _, status = os.waitpid(pid, 0)
    connection.send(str(os.waitstatus_to_exitcode(status)).encode())
    return False


if __name__ == "__main__":
    _serve(*sys.argv[1:])
