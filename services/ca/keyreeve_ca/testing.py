"""A whole CA inside a test process: real RPCs over mutual TLS on loopback, on SQLite.

`keyreeve.testing.local_ca` finds `start` through the entry point group `keyreeve.testing`.
"""

import asyncio
import threading
from concurrent.futures import Future
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from keyreeve.context import Context
from keyreeve.keys import make_csr, make_key, save_key
from keyreeve_ca import local_admin
from keyreeve_ca.coordinator import run_coordinator
from keyreeve_ca.settings import CaSettings, LintSettings
from keyreeve_ca.worker import run_worker
from keyreeve_chassis.settings.serving import ServingSettings

_START_SECONDS = 60.0


@dataclass(frozen=True)
class RunningCa:
    """A CA that runs in a thread of this process until `stop`."""

    context: Context
    """Of an admin named `tester`."""
    _loop: asyncio.AbstractEventLoop
    _stopping: asyncio.Event
    _thread: threading.Thread

    def stop(self) -> None:
        """Drain and end it; returns when it has ended."""
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()


def start(directory: Path, trust_domain: str) -> RunningCa:
    """Start a CA with its state in `directory`, and issue an admin certificate."""
    settings = CaSettings(
        trust_domain=trust_domain,
        instance="testing",
        state_directory=directory / "ca",
        listen=ServingSettings(health_port=None),
        lint=LintSettings(sample_rate=0),
        workers=1,
    )
    started: Future[tuple[Context, asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def live() -> None:
        stopping = asyncio.Event()
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(run_coordinator(settings))
            serving = await stack.enter_async_context(run_worker(settings, 0))
            context = await _admin_context(settings, directory, serving.port)
            started.set_result((context, asyncio.get_running_loop(), stopping))
            await stopping.wait()

    def run() -> None:
        try:
            asyncio.run(live())
        except BaseException as failure:
            if started.done():
                raise
            started.set_exception(failure)

    thread = threading.Thread(target=run, name="keyreeve-testing-ca", daemon=True)
    thread.start()
    context, loop, stopping = started.result(_START_SECONDS)
    return RunningCa(context, loop, stopping, thread)


async def _admin_context(settings: CaSettings, directory: Path, port: int) -> Context:
    key = make_key()
    answer = await local_admin.first_operator(settings.coordinator_socket, "tester", make_csr(key))
    context = Context(
        trust_domain=settings.trust_domain,
        endpoints={"ca": f"127.0.0.1:{port}"},
        bundle=directory / "bundle.pem",
        estate_bundle=directory / "estate-bundle.pem",
        certificate=directory / "certificate.pem",
        key=directory / "key.pem",
    )
    save_key(context.key, key)
    context.certificate.write_text(answer["certificate_pem"] + answer["chain_pem"])
    context.bundle.write_text(answer["control_bundle_pem"])
    context.estate_bundle.write_text(answer["estate_bundle_pem"])
    context.save(directory / "context.json")
    return context
