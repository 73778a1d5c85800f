"""Tab completes the commands of the legacy programs, from their grammar."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from keyreeve_gateway.grammar.completion import candidates
from support.transcripts import PROGRAMS


@pytest.mark.parametrize(
    ("line", "completed"),
    [
        ("tarantella p", ["passcache"]),
        ("tarantella s", ["security", "status"]),
        ("tarantella array make", ["make_primary"]),
        ("tarantella help array det", ["detach"]),
        ("tarantella passcache new --res", ["--resource", "--respass", "--resuser"]),
        ("tarantella passcache new --f", ["--file"]),
        ("tarantella passcache new --anon --resuser guest --resu", []),
        ("tarantella passcache list --format ", ["text", "xml"]),
        ("tarantella passcache new --person ", []),
        ("tarantella status --by", ["--byserver"]),
        ("tarantella nothing ", []),
        ("mmp pki pk", ["pkcs12-to-ssh"]),
    ],
)
def test_words_are_completed(line: str, completed: list[str]) -> None:
    program, *words = line.split(" ")
    assert candidates(PROGRAMS[program], words) == completed


def test_bash_completes_with_the_installed_program() -> None:
    script = (
        'eval "$(_TARANTELLA_COMPLETE=script tarantella)"; COMP_WORDS=(tarantella array list_); COMP_CWORD=2;'
        ' _tarantella_completion; echo "${COMPREPLY[@]}"'
    )
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["list_backup_primaries"]
