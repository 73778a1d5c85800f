"""`make up` on a machine that lacks a prerequisite, and that it installs only once."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OLD = '[ "$1" = --version ] && { echo "Python 3.9.2"; exit 0; }\nexit 1\n'
WITHOUT_VENV = 'case "$2" in *venv*) exit 1 ;; esac\nexit 0\n'


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Just enough of the checkout for `make up` to begin."""
    (tmp_path / "tools").mkdir()
    shutil.copytree(ROOT / "requirements", tmp_path / "requirements")
    for name in ("Makefile", "pyproject.toml", "tools/install"):
        shutil.copy2(ROOT / name, tmp_path / name)
    return tmp_path


def make(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", "-s", *arguments], cwd=directory, capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.parametrize(
    ("program", "said"),
    [("", "was not found"), (OLD, "Python 3.11 or newer is required"), (WITHOUT_VENV, "lacks its venv module")],
    ids=["absent", "old", "without venv"],
)
def test_what_is_lacking_is_named_with_what_to_do(copy: Path, program: str, said: str) -> None:
    if program:
        (copy / "python").write_text(f"#!/bin/sh\n{program}")
        (copy / "python").chmod(0o755)
    done = make(copy, "up", "PYTHON=./python")
    assert done.returncode != 0
    assert said in done.stderr
    assert not (copy / ".venv").exists()


def test_what_is_installed_is_not_installed_again_until_the_lock_changes(copy: Path) -> None:
    programs = copy / ".venv/bin"
    programs.mkdir(parents=True)
    for name in ("python", "keyreeve"):
        (programs / name).write_text(f'#!/bin/sh\necho "{name} $*" >> "{copy}/ran"\n')
        (programs / name).chmod(0o755)
    assert make(copy, "up").returncode == 0
    first = (copy / "ran").read_text()
    assert "--require-hashes" in first
    assert first.endswith("keyreeve up\n")
    assert make(copy, "up").returncode == 0
    assert (copy / "ran").read_text() == first + "keyreeve up\n"
    (copy / "requirements/run.txt").touch()
    assert make(copy, "up").returncode == 0
    assert (copy / "ran").read_text().count("--require-hashes") == 2


def test_help_lists_every_target_with_a_line(copy: Path) -> None:
    listed = make(copy, "help").stdout
    phony = next(line for line in (copy / "Makefile").read_text().splitlines() if line.startswith(".PHONY"))
    for target in phony.split()[1:]:
        assert f"make {target} " in listed
