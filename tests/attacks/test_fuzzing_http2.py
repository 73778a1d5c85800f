"""Random frames: nothing crashes, hangs, or holds more than it may. `make fuzz` goes on for a million inputs."""

import random

import pytest

from keyreeve_chassis.rpc.http2.engines import Engine
from support.http2_fuzzer import Fuzzer
from support.http2_peer import ENGINES

SECONDS = 15.0


@pytest.mark.faults
@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.library)
def test_random_frames_do_no_harm(engine: Engine) -> None:
    fuzzer = Fuzzer(engine, random.SystemRandom().randrange(2**32))
    fuzzer.run(seconds=SECONDS)
    assert fuzzer.inputs > 1000
    assert set(fuzzer.ends) == {"open", "closed"}
