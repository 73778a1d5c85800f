"""A short run of the bench of large arrays; how the service grows with them is not checked."""

import json
import subprocess
import sys

import pytest


@pytest.mark.faults
@pytest.mark.thorough
@pytest.mark.timeout(400)
def test_simulated_members_go_through_a_forced_promotion_and_no_certificate_expires() -> None:
    command = [sys.executable, "-m", "keyreeve_bench.members", "--members", "4", "--compare", "0", "--duration", "2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=380, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
    [array] = json.loads(done.stdout)["arrays"]
    assert array["members"] == 4
    assert array["running"] == 3, "all but the dead primary"
    assert array["least_seconds_left"] > 0
    assert array["memory_mib"] > 0
    assert array["problems"] == []
