"""Output of commands: text, tables, or one JSON or YAML document."""

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TextIO

from keyreeve.cli.exit_codes import print_error
from keyreeve.durations import in_words


class Format(StrEnum):
    """Values of `--output`."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


def color_wanted(stream: TextIO) -> bool:
    """Whether output to a stream is colored.

    It is when the stream is a terminal and NO_COLOR is not set (no-color.org).
    """
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


@dataclass(frozen=True, slots=True)
class Palette:
    """Escape sequences for a stream; all are empty when it is not colored."""

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
    """Format plain values as one document that ends in a newline."""
    if form is Format.YAML:
        import yaml

        return yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def table(columns: Sequence[str], rows: Sequence[Mapping[str, object]]) -> str:
    """Format rows under upper-case headings, columns two spaces apart.

    The last one is not padded.
    """
    cells = [[column.upper().replace("_", " ") for column in columns]]
    cells += [[_cell(row.get(column)) for column in columns] for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    return "".join(
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() + "\n" for line in cells
    )


def tell_of_more(rest: Iterator[object], limit: int) -> None:
    """Say on standard error that a list has more than the `limit` that is printed."""
    if next(rest, None) is not None:
        print_error(f"only the newest {limit} are printed; --limit prints more")


def fields(document: Mapping[str, object]) -> str:
    """Format a mapping, one field per line; lists take one line per value."""
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
    """Prints the output of one command in the format of its options."""

    def __init__(self, form: Format, *, quiet: bool = False, stream: TextIO | None = None) -> None:
        self.form = form
        self.quiet = quiet
        self._stream = stream or sys.stdout
        self.palette = Palette.of(self._stream)

    @property
    def is_text(self) -> bool:
        """Whether text is printed: neither a document nor `--quiet` was requested."""
        return self.form is Format.TABLE and not self.quiet

    def answer(self, document: object, text: str, *, brief: str = "") -> None:
        """Print the document or the text.

        With `--quiet` the brief, such as a name, instead of the text.
        """
        if self.form is not Format.TABLE:
            self._stream.write(dump(document, self.form))
            return
        chosen = brief if self.quiet else text
        if chosen:
            self._stream.write(chosen if chosen.endswith("\n") else chosen + "\n")

    def rows(self, columns: Sequence[str], rows: Sequence[Mapping[str, object]], *, brief: str, none: str = "") -> None:
        """Print a list as a table of `columns`, or a document of all fields.

        With `--quiet` only the column `brief` is printed. `none` is the text for an empty list.
        """
        text = table(columns, rows) if rows or not none else none
        self.answer([dict(row) for row in rows], text, brief="".join(f"{row[brief]}\n" for row in rows))

    def item(self, document: Mapping[str, object], *, brief: str) -> None:
        """Print one resource, one field per line."""
        self.answer(dict(document), fields(document), brief=str(document[brief]))

    def line(self, text: str) -> None:
        """Print a line of progress, as text only."""
        if self.is_text:
            self._stream.write(text + "\n")
            self._stream.flush()

    def done(self, text: str) -> None:
        """Print that a step is done, as text only."""
        self.line(f"{self.palette.green}✔{self.palette.plain} {text}")


def moment(when: datetime) -> str:
    """Format a time in UTC to the second, such as `2031-05-04T12:00:00Z`."""
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def distance(span: timedelta) -> str:
    """Format a duration in two units: `29 d 23 h`, `11 h 59 min`, `40 s`.

    A negative one as `3 h ago`.
    """
    text = in_words(abs(span), units=2)
    return f"{text} ago" if span < timedelta(0) else text


def until(when: datetime, now: datetime) -> str:
    """Format a time and its distance: `2031-05-04T12:00:00Z (in 11 h 59 min)`."""
    span = when - now
    return f"{moment(when)} ({distance(span) if span < timedelta(0) else 'in ' + distance(span)})"
