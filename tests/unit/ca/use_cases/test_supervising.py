import asyncio
import signal
import sys

import pytest

from keyreeve_ca.master import EX_CONFIG, READY, ChildRefused, _Child

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


async def test_a_child_that_may_not_start_is_told_from_one_that_failed():
    refused = _Child("refused", [sys.executable, "-P", "-c", f"raise SystemExit({EX_CONFIG})"])
    with pytest.raises(ChildRefused, match="refused"):
        await refused.start()
    failed = _Child("failed", [sys.executable, "-P", "-c", "raise SystemExit(1)"])
    with pytest.raises(ChildProcessError, match="ended with 1"):
        await failed.start()
