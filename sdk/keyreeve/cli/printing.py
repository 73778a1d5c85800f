"""How a command answers: a text or table for people, one JSON or YAML document for programs, little with `--quiet`."""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TextIO

from keyreeve.durations import in_words


class Format(StrEnum):
    """Values of `--output`."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


def color_wanted(stream: TextIO) -> bool:
    """Say whether a stream may be colored: a terminal that understands it, and no NO_COLOR (no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


@dataclass(frozen=True, slots=True)
class Palette:
    """Escape sequences for a stream, all empty where there is to be no color."""

    green: str = ""
    red: str = ""
    yellow: str = ""
    bold: str = ""
    plain: str = ""

    @classmethod
    def of(cls, stream: TextIO) -> "Palette":
        if not color_wanted(stream):
            return cls()
        return cls("\x1b[32m", "\x1b[31m", "\x1b[33m", "\x1b[1m", "\x1b[0m")


def dump(document: object, form: Format) -> str:
    """Write plain values as one document of the form, ending in a newline."""
    if form is Format.YAML:
        import yaml

        return yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def table(columns: Sequence[str], rows: Sequence[Mapping[str, object]]) -> str:
    """Lay rows out under upper-case headings, columns two spaces apart; the last one is not padded."""
    cells = [[column.upper().replace("_", " ") for column in columns]]
    cells += [[_cell(row.get(column)) for column in columns] for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    return "".join(
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() + "\n" for line in cells
    )


def fields(document: Mapping[str, object]) -> str:
    """Lay one thing out, a field a line; lists stand one value a line."""
    width = max((len(key) for key in document), default=0)
    lines = []
    for key, value in document.items():
        values = value if isinstance(value, list) else [value]
        for i, each in enumerate(values or [""]):
            label = key.replace("_", " ") if i == 0 else ""
            lines.append(f"{label.ljust(width)}  {_cell(each)}".rstrip())
    return "".join(f"{line}\n" for line in lines)


def _cell(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case list() | tuple():
            return ", ".join(_cell(each) for each in value)
        case dict():
            return ", ".join(f"{key}={_cell(each)}" for key, each in value.items())
    return str(value)


class Printer:
    """Prints what one command answers on stdout, in the form and amount that its caller asked for."""

    def __init__(self, form: Format, *, quiet: bool = False, stream: TextIO | None = None) -> None:
        self.form = form
        self.quiet = quiet
        self._stream = stream or sys.stdout
        self.palette = Palette.of(self._stream)

    @property
    def for_operators(self) -> bool:
        """Whether a person reads along: neither a document nor silence is asked for."""
        return self.form is Format.TABLE and not self.quiet

    def answer(self, document: object, text: str, *, essence: str = "") -> None:
        """Print the document, or the text; with `--quiet` the essence (such as a bare name) in place of the text."""
        if self.form is not Format.TABLE:
            self._stream.write(dump(document, self.form))
            return
        chosen = essence if self.quiet else text
        if chosen:
            self._stream.write(chosen if chosen.endswith("\n") else chosen + "\n")

    def rows(self, columns: Sequence[str], rows: Sequence[Mapping[str, object]], *, essence: str) -> None:
        """Print a list: a table of `columns`, or with `--quiet` the column `essence`, or a document of all fields."""
        self.answer(
            [dict(row) for row in rows], table(columns, rows), essence="".join(f"{row[essence]}\n" for row in rows)
        )

    def thing(self, document: Mapping[str, object], *, essence: str) -> None:
        """Print one thing, a field a line."""
        self.answer(dict(document), fields(document), essence=str(document[essence]))

    def line(self, text: str) -> None:
        """Print a line for a person who reads along; nothing otherwise."""
        if self.for_operators:
            self._stream.write(text + "\n")
            self._stream.flush()

    def done(self, text: str) -> None:
        """Print that a step is done."""
        self.line(f"{self.palette.green}✔{self.palette.plain} {text}")


def moment(when: datetime) -> str:
    """Write an instant in UTC to the second, such as `2031-05-04T12:00:00Z`."""
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def distance(span: timedelta) -> str:
    """Write a length of time in words to two units: `29 d 23 h`, `11 h 59 min`, `40 s`; the past as `3 h ago`."""
    text = in_words(abs(span), units=2)
    return f"{text} ago" if span < timedelta(0) else text


def until(when: datetime, now: datetime) -> str:
    """Write an instant both ways, such as `2031-05-04T12:00:00Z (in 11 h 59 min)`."""
    span = when - now
    return f"{moment(when)} ({distance(span) if span < timedelta(0) else 'in ' + distance(span)})"
