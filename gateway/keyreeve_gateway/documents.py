"""The page of the legacy verbs, made from their grammar."""

import ast
import inspect
from collections.abc import Iterator
from dataclasses import fields
from itertools import pairwise

from keyreeve_gateway.grammar.model import Program, Source, Verb
from keyreeve_gateway.grammar.usage import syntax
from keyreeve_gateway.programs import PROGRAMS
from keyreeve_gateway.settings import LegacySettings

_HEAD = """\
# Legacy commands

`tarantella` answers the command lines of the remote-desktop product, `mmp` those of the meeting server
(`mmp pki csr web CN:web.example.com`). They are installed with the package. With an operator's certificate they have the
gateway carry out the command where the caller's context (`KEYREEVE_CONTEXT`, or the nearest `.keyreeve/context.json`) or
`KEYREEVE_GATEWAY` (`host:port`) names one; otherwise, with `KEYREEVE_GATEWAY` empty, and with a member's certificate, they
call the services themselves. Output, exit codes and rights are the same: a command may do what the caller may do
([gateway.md](gateway.md)).

"This server" is the one that `KEYREEVE_SERVER` or the setting `server` names, else the member whose certificate is used,
else this host's name. Its array is that of the roll, or the one that `KEYREEVE_ARRAY` names. So an operator on another
host than a member's names the server to speak for:

```sh
keyreeve array create meet-1.example.com --address 10.0.0.9:5427 --release 5.40.908   # unless it is a member already
export KEYREEVE_SERVER=meet-1.example.com
tarantella array list
tarantella passcache list
mmp pki list
```

Without a name, on a host that is no member, they end with `this host is called 'vm', which is no member`.

A command line that is not of the grammar prints the usage text on standard error, ends with the code of wrong usage, and
calls nothing. A line about a failure is on standard error, and begins with the words of the command, or in `mmp` with
`FAILURE: `; the appliance has one stream and no exit codes, so which stream it is, and every exit code but 0, is chosen here.
Text that is not printable is shown as `\\x1b` or `\\u202e`. Passwords are never printed. A password on the
command line can be read by other users of the host while the command runs: leave `--respass` out, and the command asks
for it or takes a line of standard input.

A line of a batch file holds the options of one command. Inside double quotes, `\\"` stands for a quote and `\\\\` for a
backslash; a backslash at a line's end continues it, `#` begins a comment, `-` names standard input. Every line is checked
before the first is carried out; a line that fails does not stop the others, and the exit code says that one has.

Tab completes commands and options in bash after `eval "$(_TARANTELLA_COMPLETE=script tarantella)"`, and those of
`mmp` with `_MMP_COMPLETE`.

What no manual of the legacy products says is marked *chosen here*; *added* is what they do not have.

## Settings

`legacy.toml` beside the context file, or the file that `KEYREEVE_LEGACY_SETTINGS` names. All are optional. What the gateway carries
out has the settings of the gateway, from `legacy.toml` in its state directory, but for `server` and `array`.

| setting | default | what it is |
|---|---|---|
"""


def verbs_page() -> str:
    """The whole page."""
    return _HEAD + "".join(f"{line}\n" for line in _lines())


def _lines() -> Iterator[str]:
    for one in fields(LegacySettings):
        default = f'"{one.default}"' if isinstance(one.default, str) else one.default
        yield f"| `{one.name}` | `{default}` | {_explanations()[one.name]} |"
    for program in PROGRAMS:
        yield from ("", f"## `{program.name}`", "", program.summary)
        for words, verb in program.commands():
            yield from _verb(program, words, verb)


def _explanations() -> dict[str, str]:
    """The strings below the settings, by name."""
    [defined] = ast.parse(inspect.getsource(LegacySettings)).body
    assert isinstance(defined, ast.ClassDef)
    return {
        one.target.id: str(text.value.value)
        for one, text in pairwise(defined.body)
        if isinstance(one, ast.AnnAssign)
        and isinstance(one.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
    }


def _verb(program: Program, words: tuple[str, ...], verb: Verb) -> Iterator[str]:
    command = " ".join((program.name, *words))
    yield from ("", f"### `{command}`", "", verb.summary, "")
    yield from ("```text", f"{command} {syntax(verb)}".rstrip(), "```", "")
    yield f"Calls: {', '.join(f'`{one}`' for one in verb.rpcs) or 'nothing'}."
    marks = {Source.UNDOCUMENTED: "chosen here", Source.ADDED: "added"}
    named = [f"The name `{verb.name}` is {marks[verb.source]}."] if verb.source in marks else []
    marked = [f"`{one.name}` is {marks[one.source]}." for one in verb.options.values() if one.source in marks]
    marked += [f"`{one.name}` is {marks[one.source]}." for one in verb.arguments if one.source in marks]
    notes = [*named, *marked, *(f"{one.what} {one.why}" for one in verb.differences)]
    if notes:
        yield ""
        yield from (f"- {note}" for note in notes)
