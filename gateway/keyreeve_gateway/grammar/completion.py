"""Completion of command lines in bash, from the grammar. No I/O."""

from collections.abc import Sequence

from keyreeve_gateway.grammar.model import Family, Program, Verb
from keyreeve_gateway.grammar.parsing import FILE, HELP


def candidates(program: Program, words: Sequence[str]) -> list[str]:
    """What may stand in place of the last word of a command line, which begins after the program's name."""
    *before, begun = words or ("",)
    return sorted(word for word in _following(program, before) if word.startswith(begun))


def _following(program: Program, words: Sequence[str]) -> list[str]:
    if words[:1] == ["help"]:
        return [] if len(words) > 2 else [word for word in _names(program, words[1:]) if word != "help"]
    named: Family | Verb | None = program.family(words[0]) or program.verb(words[0]) if words else None
    if isinstance(named, Family) and len(words) > 1:
        named, words = named.verb(words[1]), words[1:]
    if not isinstance(named, Verb):
        return _names(program, words)
    given = named.options.get(words[-1])
    if given is not None and given.value:
        return list(given.choices)
    options = [one for one in named.options if one not in words]
    return [*options, HELP, *([FILE] if named.batch and len(words) == 1 else [])]


def _names(program: Program, words: Sequence[str]) -> list[str]:
    if not words:
        return [*(one.name for one in program.families), *(one.name for one in program.verbs), "help"]
    family = program.family(words[0]) if len(words) == 1 else None
    return [] if family is None else [one.name for one in family.verbs]


def bash_script(program: Program) -> str:
    """What bash evaluates so that Tab completes the commands of a program."""
    name = program.name
    return (
        f"_{name}_completion() {{\n"
        f'    mapfile -t COMPREPLY < <({variable(program)}=words {name} "${{COMP_WORDS[@]:1:COMP_CWORD}}")\n'
        "}\n"
        f"complete -o default -F _{name}_completion {name}"
    )


def variable(program: Program) -> str:
    """The variable of the environment that asks a program for its completion: `script`, or `words`."""
    return f"_{program.name.upper()}_COMPLETE"
