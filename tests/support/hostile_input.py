"""Hostile command lines and answers, generated."""

import shlex

from hypothesis import strategies as st

from keyreeve_gateway.grammar.model import Program
from support.transcripts import read, transcripts

HOSTILE = (
    "\x1b[2J\x1b]0;owned\x07",
    "line\nSUCCESS: forged",
    "\r! forged",
    "\u202egnp.exe",
    "\u2028",
    "\x00",
    "\udcff",
    "x" * 1_000_000,
    "é" * 100_000,
    "'; DROP TABLE entries; --",
    "$(reboot)",
    "../../etc/passwd",
    "%s%n",
    "*",
    "-",
    "--",
    "---",
    "--file",
    "--help",
    "help",
    "",
    " ",
)


def words_of(program: Program) -> list[str]:
    """Every word of a program's grammar."""
    found = {family.name for family in program.families} | {verb.name for verb in program.verbs}
    for _, verb in program.commands():
        found |= {verb.name, *verb.options}
        found |= {choice for option in verb.options.values() for choice in option.choices}
    return sorted(found)


def command_lines(program: Program) -> st.SearchStrategy[list[str]]:
    """Command lines that begin like a verb and go on with anything, and those of the transcripts with words replaced."""
    verbs = [list(words) for words, _ in program.commands()]
    word = st.one_of(
        st.sampled_from(words_of(program)),
        st.sampled_from(HOSTILE),
        st.text(max_size=20),
        st.just(".../_dns/a.example"),
    )
    begun = st.builds(lambda verb, rest: [*verb, *rest], st.sampled_from([[], *verbs]), st.lists(word, max_size=9))
    replaced = st.dictionaries(st.integers(0, 9), word, max_size=2)
    altered = st.builds(
        lambda argv, others: [others.get(n, each) for n, each in enumerate(argv)],
        st.sampled_from(known_command_lines(program)),
        replaced,
    )
    return st.one_of(begun, altered)


def known_command_lines(program: Program) -> list[list[str]]:
    """The command lines of the transcripts, each once."""
    commands = {step.command for path in transcripts() for step in read(path)}
    split = (shlex.split(command) for command in sorted(commands))
    return [argv[1:] for argv in split if argv[:1] == [program.name]]


def answers() -> st.SearchStrategy[bytes]:
    """What is typed at a question, or is in a file."""
    texts = st.one_of(st.sampled_from(HOSTILE), st.text(max_size=20))
    encoded = texts.map(lambda text: text.encode("utf-8", "surrogateescape" if "\udcff" in text else "replace"))
    return st.one_of(st.sampled_from([b"yes", b"Y", b"no"]), st.binary(max_size=40), encoded)
