"""Run the blocks of README.md and of docs/ in a copy of the checkout, on one control plane, and compare what they print.

The blocks of a page run one after the other in a directory of its own, after the README has started the control plane.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.documents import ROOT, Block, blocks_of, pages

README = ROOT / "README.md"
_HERE = {"sh", "python"}


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Path]:
    """A copy of what is under version control, with this environment's programs in its .venv."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode()
    copy = tmp_path / "keyreeve"
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)
    # The stamps say that nothing has to be installed; tools/quickstart installs on a fresh clone.
    (copy / ".venv").mkdir()
    (copy / ".venv/bin").symlink_to(Path(sys.executable).parent)
    for stamp in (".run", ".dev"):
        (copy / ".venv" / stamp).touch()
    yield copy
    run("sh", "make down", copy)


def run(language: str, text: str, directory: Path) -> subprocess.CompletedProcess[str]:
    ours = ("KEYREEVE_CONTEXT", "KEYREEVE_DIR", "FORCE", "MAKEFLAGS", "MAKELEVEL", "PYTHONPATH")
    environment = {name: value for name, value in os.environ.items() if name not in ours}
    if not (directory / ".venv").exists():  # a page, for which the programs are installed
        environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    command = ["bash", "-euo", "pipefail", "-c", text] if language == "sh" else [sys.executable, "-c", text]
    return subprocess.run(
        command,
        cwd=directory,
        env=environment | {"KEYREEVE_PORT": "0", "HOME": str(directory)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


def shape(line: str) -> str:
    """A line without what differs from run to run: fingerprints, serial numbers, times, ports, the person's name."""
    line = re.sub(r"[0-9a-f]{32,64}", "HEX", line)
    line = re.sub(r"operators/admin/[\w-]+", "operators/admin/NAME", line)
    line = re.sub(r"\d+", "N", line)
    return " ".join(re.sub(r"\(in .*?\)", "(in SPAN)", line).split())


def failures_of(blocks: list[Block], directory: Path) -> list[str]:
    """Run blocks in order, to the first that fails or prints something else."""
    for block in blocks:
        done = run(block.language, block.text, directory)
        if done.returncode != 0:
            return [f"{block.place}: {done.stdout}{done.stderr}"]
        printed = [shape(line) for line in done.stdout.splitlines()]
        missing = [line for line in block.shown.splitlines() if shape(line) not in printed]
        if missing:
            return [f"{block.place} does not print {missing}: {done.stdout}"]
    return []


def to_run(page: Path) -> list[Block]:
    return [block for block in blocks_of(page) if block.language in _HERE and not block.no_run]


SERVICES = ("membership", "credentials", "gateway")
"""Whose units are one template."""


def test_the_commands_of_the_units_are_commands_with_these_options() -> None:
    programs = {"keyreeve": "keyreeve.cli", "keyreeve-agent": "keyreeve_agent.commands"}
    started = [
        shlex.split(line.removeprefix("ExecStart="))
        for page in pages()
        for block in blocks_of(page)
        for template in block.text.splitlines()
        if block.language == "ini" and template.startswith("ExecStart=")
        for line in ([template.replace("%i", one) for one in SERVICES] if "%i" in template else [template])
    ]
    assert len(started) >= 4
    for program, *arguments in started:
        name = Path(program).name
        code = f"import sys; sys.argv = sys.argv[1:]; from {programs.get(name)} import main; sys.exit(main())"
        command = ["-c", code, name, *arguments] if name in programs else arguments
        done = subprocess.run([sys.executable, *command, "--help"], capture_output=True, text=True, check=False)
        assert done.returncode == 0, (program, arguments, done.stderr)


@pytest.mark.faults
@pytest.mark.timeout(600)
def test_the_blocks_of_the_documents_do_what_they_say(checkout: Path) -> None:
    readme = to_run(README)
    assert len(readme) >= 6
    assert "make down" in readme[-1].text
    assert failures_of(readme[:-1], checkout) == []
    failures = []
    for page in pages()[1:]:
        directory = checkout.parent / page.stem
        directory.mkdir()
        (directory / ".keyreeve").symlink_to(checkout / ".keyreeve")
        failures += failures_of(to_run(page), directory)
    assert not failures, "\n".join(failures)
    assert failures_of(readme[-1:], checkout) == []
    assert not (checkout / ".keyreeve").exists()
