"""Batch files: one set of options per line. No I/O."""

from collections.abc import Iterator

from keyreeve_gateway.grammar.model import Verb
from keyreeve_gateway.grammar.parsed import Parsed
from keyreeve_gateway.grammar.parsing import (
    MOST_CHARACTERS,
    UsageProblem,
    check_characters,
    parse_arguments,
)

MOST_BYTES = 16 * 2**20


def parse_batch(verb: Verb, data: bytes) -> list[tuple[int, Parsed]]:
    """Parse every line of a batch file before any is carried out: line numbers and options.

    Raises `UsageProblem` with the number of the first line that is not of the grammar.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UsageProblem("the file is not UTF-8") from None
    lines = []
    for number, line in logical_lines(text):
        try:
            lines.append((number, parse_arguments(verb, split_words(line))))
        except UsageProblem as problem:
            raise UsageProblem(f"line {number}: {problem}") from None
    return lines


def logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Number the lines, with comments and empty lines left out and continued lines joined."""
    pending, start = "", 0
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.removesuffix("\r")
        if not pending and (not line.strip() or line.lstrip().startswith("#")):
            continue
        start = start or number
        if line.endswith("\\") and not line.endswith("\\\\"):
            pending += line[:-1] + " "
            continue
        yield start, pending + line
        pending, start = "", 0
    if pending:
        raise UsageProblem(f"line {start}: the last line is continued, and the file ends")


def split_words(line: str) -> list[str]:
    r"""Split a line at spaces; inside double quotes, `\"` and `\\` stand for a quote and a backslash.

    Raises `UsageProblem`.
    """
    if len(line) > 8 * MOST_CHARACTERS:
        raise UsageProblem("the line is too long")
    words: list[str] = []
    word: list[str] = []
    begun = quoted = False
    position = 0
    while position < len(line):
        letter = line[position]
        position += 1
        if quoted and letter == "\\" and line[position : position + 1] in {'"', "\\"}:
            word.append(line[position])
            position += 1
        elif letter == '"':
            quoted, begun = not quoted, True
        elif letter in " \t" and not quoted:
            if begun:
                words.append("".join(word))
            word, begun = [], False
        else:
            word.append(letter)
            begun = True
    if quoted:
        raise UsageProblem("a quotation mark is not closed")
    if begun:
        words.append("".join(word))
    check_characters(words)
    return words
