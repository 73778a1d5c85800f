"""Completion in the shell, by the protocol between bash and the program, on a running control plane."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.control_plane import ControlPlane

PROGRAM = Path(sys.executable).parent / "keyreeve"


def complete(words: str, directory: Path) -> list[str]:
    """What bash is told when Tab is pressed behind these words."""
    line = f"keyreeve {words}"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("KEYREEVE_")}
    environment |= {
        "_KEYREEVE_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(line.split(" ")) - 1),
    }
    done = subprocess.run([PROGRAM], cwd=directory, env=environment, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ("cert issue x --out x --profile ser", ["server", "service"]),
        ("profile show cl", ["client"]),
        ("authority show estate", ["estate-issuing-1", "estate-root-1"]),
        ("cert list --authority control-r", ["control-root-1"]),
        ("cert list --context ", [".keyreeve/context.json"]),
        ("rota", ["rotation"]),
    ],
)
def test_names_are_completed(words: str, names: list[str], control_plane: ControlPlane) -> None:
    assert complete(words, control_plane.directory) == names


def test_where_nothing_can_be_asked_nothing_is_completed(tmp_path: Path) -> None:
    assert complete("profile show s", tmp_path) == []
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "context.json").write_text("{")
    assert complete("cert list --context far/", tmp_path) == ["far/context.json"]
    assert complete("profile show --context far/context.json s", tmp_path) == []
