"""Golden transcripts of the legacy commands: plain text that a person reads and writes.

    # A comment.
    given array sales: newyork.example.com boston.example.com
    file entries.txt
        --anon --resource .../_dns/prague.example.com --resuser guest --respass guest
    $ tarantella passcache new --file entries.txt
    ? Password: <- s3cret
    | a line of output
    ! a line on standard error
    > EntryService/CreateEntry parent: "arrays/sales" ...
    = 0

A person writes `#`, `given`, `file`, `$`, and after `?` the answers; the rest is what happened. `make golden-update` writes it.
"""

import os
import re
import shlex
from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from difflib import unified_diff
from functools import partial
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from google.protobuf.message import Message

from keyreeve.errors import FileUnusable
from keyreeve.plaintext import Plaintext
from keyreeve_gateway import programs
from keyreeve_gateway.dispatch import Surroundings, run_command
from keyreeve_gateway.grammar.model import Program
from keyreeve_gateway.settings import LegacySettings
from keyreeve_gateway.text import one_line

GOLDEN = Path(__file__).parents[1] / "golden"
PROGRAMS: dict[str, Program] = {program.name: program for program in programs.PROGRAMS}
UPDATE = "KEYREEVE_UPDATE_GOLDEN"
_BASE64 = "| <base64>"
_HIDDEN = ("secret", "passphrase", "contents")


def transcripts() -> list[Path]:
    """Every stored transcript."""
    return sorted(GOLDEN.rglob("*.txt"))


@dataclass
class Step:
    """One command line, or what is set before the next ones."""

    comments: list[str] = field(default_factory=list)
    given: list[str] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    command: str = ""
    answers: list[str] = field(default_factory=list)


def read(path: Path) -> list[Step]:
    """What a person wrote in a transcript."""
    steps, file = [Step()], ""
    lines = path.read_text().splitlines()
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        if steps[-1].command and line[:2] in {"# ", "$ ", "gi", "fi"}:
            steps.append(Step())
        step = steps[-1]
        if file and (line.startswith("    ") or (not line and following.startswith("    "))):
            step.files[file] += (line[4:] + "\n").encode()
            continue
        file = ""
        if line.startswith("# "):
            step.comments.append(line)
        elif line.startswith("given "):
            step.given.append(line.removeprefix("given "))
        elif line.startswith("file "):
            file = line.removeprefix("file ")
            step.files[file] = b""
        elif line.startswith("$ "):
            step.command = line[2:]
        elif line.startswith("? "):
            step.answers.append(line.partition(" <-")[2].removeprefix(" "))
    return steps


@dataclass
class Recorder:
    """What happened, as lines of a transcript, with what differs from run to run numbered."""

    lines: list[str] = field(default_factory=list)
    known: dict[str, str] = field(default_factory=dict)
    arrays: set[str] = field(default_factory=set)
    """Arrays whose names the transcript gives; those that are made on the way are numbered."""
    hides_subjects: bool = False

    def _array(self, found: re.Match[str]) -> str:
        return found[0] if found[0] in self.arrays else self._number("array", found[0])

    def write(self, line: str) -> None:
        if self.lines[-1:] == [_BASE64] and not line.startswith("| -----"):
            return
        begun = self.lines[-1:] == ["| -----BEGIN CERTIFICATE-----"]
        self.lines.append(_BASE64 if begun else self.masked(line).rstrip())

    def masked(self, line: str) -> str:
        line = re.sub(r"(?<=arrays/)[a-z0-9-]+", self._array, line)
        line = re.sub(r"(?<=entries/)[0-9a-f]{32}", lambda found: self._number("entry", found[0]), line)
        line = re.sub(r"(?<=operations/)[0-9a-f-]{16,}", lambda found: self._number("operation", found[0]), line)
        line = re.sub(r"(?<=Serial Number: )[0-9A-Fa-f:]+", lambda found: self._number("serial", found[0]), line)
        line = re.sub(r"(?<=(?:Not Before|Not After ): ).*GMT", "<time>", line)
        if self.hides_subjects:
            line = re.sub(r"(Subject|Issuer): .*", r"\1: <name>", line)
        return re.sub(r"\b([0-9A-F]{2}:){19,31}[0-9A-F]{2}\b", lambda f: self._number("fingerprint", f[0]), line)

    def _number(self, kind: str, text: str) -> str:
        alike = sum(one.startswith(f"<{kind}") for one in self.known.values())
        return self.known.setdefault(text, f"<{kind}-{alike + 1}>")

    def rpc(self, method: str, request: Message) -> None:
        """Record a call of `/package.Service/Method`."""
        shown = type(request)()
        shown.CopyFrom(request)
        for name in (one.name for one in shown.DESCRIPTOR.fields):
            if name in {"request_id", "page_size"}:
                shown.ClearField(name)
            elif name == "header":
                getattr(shown, name).ClearField("request_id")
            elif name in _HIDDEN and getattr(shown, name):
                setattr(shown, name, b"***")
            elif name.endswith("sha256") and getattr(shown, name):
                setattr(shown, name, b"<sha256>")
        text = text_format.MessageToString(shown, as_one_line=True, as_utf8=True)
        self.write(f"> {method.rpartition('.')[2]} {text}")


@dataclass
class ScriptedConsole:
    """A console whose answers are written beforehand."""

    recorder: Recorder
    answers: list[str]
    files: dict[str, bytes]
    interactive: bool = True

    def say(self, line: str = "") -> None:
        self.recorder.write(f"| {one_line(line)}")

    def warn(self, line: str) -> None:
        self.recorder.write(f"! {one_line(line)}")

    async def ask(self, prompt: str) -> str | None:
        return self._answer(prompt) if self.interactive else None

    async def ask_secret(self, prompt: str) -> Plaintext | None:
        answer = self._answer(prompt) if self.interactive else None
        return None if answer is None else Plaintext.of(answer)

    async def read_file(self, name: str, limit: int) -> bytes:
        if name not in self.files:
            raise FileUnusable(f"cannot read {name}: No such file or directory")
        return self.files[name][: limit + 1]

    def _answer(self, prompt: str) -> str | None:
        answer = self.answers.pop(0) if self.answers else None
        self.recorder.write(f"? {prompt}<-" + (f" {answer}" if answer else ""))
        return answer


async def run_in_process(command: "PlayedCommand", stage: "Stage") -> int:
    """Run a command as the installed one does without a gateway."""
    surroundings = Surroundings(
        partial(nullcontext, stage.services),
        LegacySettings(array=command.array),
        partial(str, command.server),
        stage.now,
    )
    return await run_command(command.program, command.argv, command.console, surroundings)


async def nothing(*_: object) -> None:
    """Do nothing before and after a command."""


def several_calls(argv: list[str]) -> bool:
    """Whether a command line makes several changes, of which one may fail after others."""
    several = (["config", "edit"], ["array", "remove_backup_primary"], ["pki", "pkcs12-to-ssh"])
    return "--file" in argv or argv[:2] in several


@dataclass
class Stage:
    """What transcripts are played on: services, and how their state is made."""

    services: Any
    give: Callable[[str], Awaitable[None]]
    """Make true what a line `given ...` says."""
    recorder: Recorder
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    before: Callable[[], Awaitable[None]] = nothing
    """Called before each command."""
    after: Callable[["PlayedCommand", int], Awaitable[None]] = nothing
    """Called after each command, with its exit code."""
    run: Callable[["PlayedCommand", "Stage"], Awaitable[int]] = run_in_process
    """The way in."""


@dataclass(frozen=True)
class PlayedCommand:
    """A command line of a transcript, and what it is given."""

    program: Program
    argv: list[str]
    console: ScriptedConsole
    server: str
    """This server."""
    array: str


async def play(path: Path, stage: Stage) -> str:
    """Play a transcript; return it with what happened."""
    lines: list[str] = []
    server, array, present, files = "", "", True, dict[str, bytes]()
    for step in read(path):
        lines += step.comments
        for text in step.given:
            lines.append(f"given {text}")
            match text.split(maxsplit=1):
                case ["server", name]:
                    server = name
                case ["setting", name]:
                    array = name
                case ["nobody", _]:
                    present = False
                case _:
                    if text.startswith("array "):
                        stage.recorder.arrays.add(text.split()[1].removesuffix(":"))
                    await stage.give(text)
        for name, content in step.files.items():
            files[name] = content
            lines += [f"file {name}", *(f"    {line}".rstrip() for line in content.decode().splitlines())]
        if not step.command:
            continue
        stage.recorder.lines.clear()
        program, *argv = shlex.split(step.command)
        console = ScriptedConsole(stage.recorder, list(step.answers), files, present)
        await stage.before()
        stage.recorder.hides_subjects = program == "tarantella"
        stage.recorder.lines.clear()
        played = PlayedCommand(PROGRAMS[program], argv, console, server, array)
        code = await stage.run(played, stage)
        await stage.after(played, code)
        lines += [f"$ {step.command}", *stage.recorder.lines, f"= {code}", ""]
    return "\n".join(lines).rstrip("\n") + "\n"


def compare(path: Path, played: str, *, update: bool = False) -> None:
    """Compare a transcript with what happened, or store that."""
    if update and os.environ.get(UPDATE):
        path.write_text(played)
    stored = path.read_text()
    difference = "\n".join(unified_diff(stored.splitlines(), played.splitlines(), "stored", "played", lineterm=""))
    assert played == stored, f"{path} (`make golden-update` stores what happened):\n{difference}"


def rpcs_of(lines: Sequence[str]) -> set[str]:
    """The RPCs in lines of a transcript."""
    return {line.split()[1] for line in lines if line.startswith("> ")}
