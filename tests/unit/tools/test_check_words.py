"""`tools/check-words`: replaced words are found in texts and file names, stored labels and exempt files are not."""

import subprocess
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

import pytest

TOOL = Path(__file__).parents[3] / "tools/check-words"


def tool() -> ModuleType:
    loader = SourceFileLoader("check_words", str(TOOL))
    spec = spec_from_loader(loader.name, loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    return module


CHECK_WORDS = tool()


@pytest.mark.parametrize(
    "line",
    [
        "message EnrolRequest {",
        "An enrolment token",
        "the newcomers' listener",
        "wished_names = []",
        "a CSR's wishes are requests",
        "SPIFFE ID of whoever asked for it",
        "somebody else's key",
        "from keyreeve_ca.issuance.batching import Turns",
        "turns.enter(caller, 1)",
        "a greedy caller",
        "the lane of an issuer",
        "class KeeperLedger:",
        "forked from the zygote",
        "the Catalogue of profiles",
        "incarnation: int",
        "reason = 'not_given'",
        "keyreeve bench sign --require 'unary>=0.8B'",
        "make bench-peers",
        "the behaviour of the licence",
        "names are normalised",
        "rules between rooms",
        "from keyreeve_ca import local_admin as tools",
    ],
)
def test_a_replaced_word_is_found(line: str) -> None:
    [hit] = {number for number, _, _ in CHECK_WORDS.hits(f"fine\n{line}\n")}
    assert hit == 2


@pytest.mark.parametrize(
    "line",
    [
        "enrollment, enrollee, enroll, EnrollRequest",
        '_LABEL: Final = b"keyreeve-enrol-1"',
        'KIND = "enrolment token"',
        "Turn a token into an identity; NO_COLOR turns color off",
        "await asyncio.gather(*tasks)",
        "control_plane, control plane",
        "housekeeping, keeping",
        "the request is in the ledger",
        "an optimistic analysis of the promise, otherwise exercised",
        "Path.home() / 'x'; HOME=/root",
        "unary>=0.8combined-bound",
        "there is no room on the disk",
        "fulfill, license, behavior, color, canceled, signaled",
    ],
)
def test_other_words_are_not_found(line: str) -> None:
    assert list(CHECK_WORDS.hits(line)) == []


def test_names_and_contents_are_checked_and_exempt_and_binary_files_are_not(tmp_path: Path) -> None:
    for name, content in {
        "notes/newcomer.md": b"fine",
        "notes/a.md": b"one\nof a colour\n",
        "docs/glossary.md": b"newcomer",
        "services/ca/keyreeve_ca/migrations/versions/0001.py": b"incarnation",
        "sdk/a_pb2.py": b"enrolment",
        "notes/b.bin": b"\xff\xfe newcomer",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    names = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    found = CHECK_WORDS.check(tmp_path, names)
    assert [one.partition(" (use")[0] for one in found] == [
        "notes/a.md:2: of a colour",
        "notes/newcomer.md: file name",
    ]


def test_the_program_prints_hits_and_fails(tmp_path: Path) -> None:
    bad, good = tmp_path / "bad.md", tmp_path / "good.md"
    bad.write_text("a newcomer\n")
    good.write_text("an enrollee\n")
    done = subprocess.run([sys.executable, TOOL, str(bad), str(good)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, f"{bad}:1: a newcomer (use: enrollee)\n")
    assert subprocess.run([sys.executable, TOOL, str(good)], check=False).returncode == 0
