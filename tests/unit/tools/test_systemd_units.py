"""The systemd units of the documents are what systemd reads without a complaint."""

import re
import subprocess
from pathlib import Path

import pytest

from support import documents
from support.programs import find_program

_TARGETS = ("sysinit", "basic", "shutdown", "timers", "network-online", "multi-user")
_UNIT = re.compile(r"^# /etc/systemd/system/(\S+)\n", re.MULTILINE)


def units() -> dict[str, str]:
    """The units in the pages by file name."""
    found: dict[str, str] = {}
    for page in documents.pages():
        for block in documents.blocks_of(page):
            if block.language == "ini":
                parts = _UNIT.split(block.text)
                found |= dict(zip(parts[1::2], parts[2::2], strict=True))
    return found


def complaints(root: Path, written: dict[str, str]) -> str:
    """What `systemd-analyze verify` prints about units on a machine that has their programs."""
    folder = root / "etc/systemd/system"
    folder.mkdir(parents=True)
    for target in _TARGETS:
        (folder / f"{target}.target").write_text("[Unit]\n")
    for name, text in written.items():
        (folder / name).write_text(text)
        for program in re.findall(r"^Exec\w+=(/\S+)", text, re.MULTILINE):
            path = root / program.removeprefix("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("#!/bin/sh\n")
            path.chmod(0o755)
    names = [name.replace("@.", "@membership.") for name in written]
    command = [find_program("systemd-analyze"), "verify", "--man=no", "--root", str(root), *names]
    done = subprocess.run(command, capture_output=True, check=False, text=True, timeout=60)
    return done.stdout + done.stderr or ("" if done.returncode == 0 else f"exit code {done.returncode}")


def test_systemd_reads_every_unit_of_the_documents(tmp_path: Path) -> None:
    written = units()
    assert {"keyreeve-ca.service", "keyreeve@.service", "keyreeve-renew.timer"} <= set(written)
    assert complaints(tmp_path, written) == ""


@pytest.mark.parametrize("line", ["Restart=sometimes", "NoNewPriviliges=true", "ExecStart=/usr/bin/missing 'a"])
def test_a_wrong_line_of_a_unit_is_found(tmp_path: Path, line: str) -> None:
    wrong = units()["keyreeve-ca.service"].replace("Restart=on-failure", line)
    assert complaints(tmp_path, {"keyreeve-ca.service": wrong})
