"""`keyreeve --version` and the Go packages of the contract."""

import re
from importlib.metadata import version
from pathlib import Path

from support.command_line import Run

PROTO = Path(__file__).parents[3] / "proto"


def test_the_version_option_prints_the_version(run: Run) -> None:
    done = run("--version")
    assert done.code == 0
    assert done.out == f"keyreeve {version('keyreeve')}\n"


def test_every_file_of_the_contract_names_the_go_package_of_its_folder() -> None:
    files = sorted(PROTO.rglob("*.proto"))
    assert files
    for file in files:
        folder = file.parent.relative_to(PROTO)
        service, major = folder.parts[-2:]
        [found] = re.findall(r'^option go_package = "(.*)";$', file.read_text(), re.MULTILINE)
        assert found == f"{folder.as_posix()};{service}{major}"
