"""What a process leaves behind when it crashes."""

import os
import subprocess
import sys
from pathlib import Path

CRASH = """
import os, resource
from keyreeve_chassis.keys import core_dumps
_, most = resource.getrlimit(resource.RLIMIT_CORE)
resource.setrlimit(resource.RLIMIT_CORE, (most, most))
core_dumps.forbid()
os.abort()
"""


def test_a_crashed_process_leaves_no_core_dump(tmp_path: Path) -> None:
    program = f"import os; os.chdir({str(tmp_path)!r}){CRASH}"
    pid = os.posix_spawn(sys.executable, [sys.executable, "-c", program], os.environ)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status)
    assert not os.WCOREDUMP(status)
    assert list(tmp_path.iterdir()) == []


def test_the_limit_holds_for_programs_that_it_starts_too() -> None:
    program = (
        "import subprocess, sys; from keyreeve_chassis.keys import core_dumps; core_dumps.forbid(); core_dumps.forbid()\n"
        "subprocess.run([sys.executable, '-c', 'import resource; print(resource.getrlimit(resource.RLIMIT_CORE))'])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() in {"(1, 1)", "(0, 0)"}
