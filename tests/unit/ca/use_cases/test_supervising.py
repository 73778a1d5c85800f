import asyncio
import signal
import sys

from keyreeve_ca.master import READY, _Child

DEAF = f"""
import signal, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
sys.stdout.write({READY.decode()!r})
sys.stdout.flush()
signal.pause()
"""


async def test_a_child_that_does_not_hear_is_killed_when_its_time_is_over():
    child = _Child("deaf", [sys.executable, "-P", "-c", DEAF])
    await child.start()
    async with asyncio.timeout(30):
        await child.stop(0.1)
    assert child.process.returncode == -signal.SIGKILL
