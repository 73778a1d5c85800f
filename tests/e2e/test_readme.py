"""Run the README's blocks in a copy of the checkout and compare their output with what it shows."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A block to run, and what the README says that it prints."""

    language: str
    text: str
    shown: str


def readme_blocks() -> list[Block]:
    """The `sh` and `python` blocks in order, each with the `text` block that follows it directly."""
    text = (ROOT / "README.md").read_text()
    found = list(BLOCK.finditer(text))
    blocks = []
    for i, match in enumerate(found):
        follower = found[i + 1] if i + 1 < len(found) else None
        directly = follower is not None and not text[match.end() : follower.start()].strip()
        shown = follower[2] if follower is not None and directly and follower[1] == "text" else ""
        if match[1] in {"sh", "python"}:
            blocks.append(Block(match[1], match[2], shown))
    return blocks


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
    run(Block("sh", "make down", ""), copy)


def run(block: Block, directory: Path) -> subprocess.CompletedProcess[str]:
    ours = ("KEYREEVE_CONTEXT", "KEYREEVE_DIR", "FORCE", "MAKEFLAGS", "MAKELEVEL", "PYTHONPATH")
    environment = {name: value for name, value in os.environ.items() if name not in ours}
    command = (
        ["bash", "-euo", "pipefail", "-c", block.text] if block.language == "sh" else [sys.executable, "-c", block.text]
    )
    return subprocess.run(
        command,
        cwd=directory,
        env=environment | {"KEYREEVE_PORT": "0"},
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


@pytest.mark.slow
def test_the_blocks_of_the_readme_do_what_it_says(checkout: Path) -> None:
    blocks = readme_blocks()
    assert len(blocks) >= 6
    for block in blocks:
        done = run(block, checkout)
        assert done.returncode == 0, (block.text, done.stdout, done.stderr)
        printed = [shape(line) for line in done.stdout.splitlines()]
        missing = [line for line in block.shown.splitlines() if shape(line) not in printed]
        assert missing == [], done.stdout
    assert not (checkout / ".keyreeve").exists()
