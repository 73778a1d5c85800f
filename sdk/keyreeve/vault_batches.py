r"""Files of entries to import: the batch form of the legacy command `passcache new`, and JSON lines.

A line of a batch holds the options of one entry: `{ --person NAME | --anon | --ldap } --resource NAME --resuser USER
--respass PASSWORD`. Words are separated by blanks; in double quotes, `\"` and `\\` stand for a quote and a backslash. With
`--ldap` the resource is ignored. Empty lines are left out.

A JSON line is an object with `owner`, `resource`, `user_name`, `secret`, and optionally `kind` (`smart_card`) and `domain`.
"""

import json
from collections.abc import Callable

from keyreeve.errors import ImportRefused, Violation
from keyreeve.plaintext import Plaintext
from keyreeve.vault_values import EntryKind, ImportRow

_VALUES = ("person", "resource", "resuser", "respass")
_FLAGS = {"anon": "anonymous", "ldap": "ldap"}
_JSON = frozenset({"owner", "resource", "user_name", "secret", "kind", "domain"})


class _LineWrong(Exception):
    """What is wrong with a line; never the password in it."""


def parse_batch(text: str) -> list[ImportRow]:
    """Parse a batch file. Raises `ImportRefused` with a violation for each wrong line."""
    return _parse(text, _batch_row)


def parse_json_lines(text: str) -> list[ImportRow]:
    """Parse JSON lines. Raises `ImportRefused` with a violation for each wrong line."""
    return _parse(text, _json_row)


def _parse(text: str, parse: Callable[[int, str], ImportRow]) -> list[ImportRow]:
    rows: list[ImportRow] = []
    wrong: list[Violation] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            rows.append(parse(number, line))
        except _LineWrong as problem:
            wrong.append(Violation(f"lines[{number}]", str(problem)))
    if wrong:
        raise ImportRefused(f"{wrong[0].field}: {wrong[0].description}", violations=wrong[:100])
    return rows


def _batch_row(number: int, line: str) -> ImportRow:
    words = _words(line)
    options: dict[str, str] = {}
    owner = ""
    while words:
        word = words.pop(0)
        name = word.removeprefix("--")
        if not word.startswith("--") or name not in {*_VALUES, *_FLAGS}:
            raise _LineWrong(f"an option is required, one of --{', --'.join((*_VALUES, *_FLAGS))}")
        if name in _FLAGS or name == "person":
            if owner:
                raise _LineWrong("one of --person, --anon and --ldap is required, and no more")
            owner = _FLAGS.get(name, "")
        if name in _VALUES:
            if not words or name in options:
                raise _LineWrong(f"--{name} has no value" if not words else f"--{name} is given twice")
            options[name] = words.pop(0)
            owner = options["person"] if name == "person" else owner
    missing = [name for name in ("resource", "resuser", "respass") if name not in options]
    if owner == "ldap" and "resource" in missing:
        missing.remove("resource")
    if not owner or missing:
        raise _LineWrong(f"missing: {'--person, --anon or --ldap' if not owner else '--' + ', --'.join(missing)}")
    resource = "" if owner == "ldap" else options["resource"]
    return ImportRow(number, owner, resource, options["resuser"], Plaintext.of(options["respass"]))


def _words(line: str) -> list[str]:
    """Split a line into words."""
    words: list[str] = []
    word: list[str] | None = None
    quoted, at = False, 0
    while at < len(line):
        character = line[at]
        if quoted and character == "\\" and line[at + 1 : at + 2] in {'"', "\\"}:
            at += 1
            character = line[at]
        elif character == '"':
            quoted, word = not quoted, word or []
            at += 1
            continue
        elif not quoted and character in " \t":
            if word is not None:
                words.append("".join(word))
            word = None
            at += 1
            continue
        word = [*(word or []), character]
        at += 1
    if quoted:
        raise _LineWrong("a quotation mark is not closed")
    if word is not None:
        words.append("".join(word))
    return words


def _json_row(number: int, line: str) -> ImportRow:
    try:
        given = json.loads(line)
    except ValueError:
        raise _LineWrong("no JSON") from None
    if not isinstance(given, dict) or not given.keys() <= _JSON or not all(isinstance(v, str) for v in given.values()):
        raise _LineWrong(f"an object with texts is required: {', '.join(sorted(_JSON))}")
    if missing := {"owner", "user_name"} - given.keys():
        raise _LineWrong(f"missing: {', '.join(sorted(missing))}")
    try:
        kind = EntryKind(given.get("kind", "password"))
    except ValueError:
        raise _LineWrong("kind is password or smart_card") from None
    return ImportRow(
        number,
        given["owner"],
        given.get("resource", ""),
        given["user_name"],
        Plaintext.of(given["secret"]) if "secret" in given else None,
        kind,
        given.get("domain", ""),
    )
