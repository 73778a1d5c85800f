"""Parsing of arguments by the grammar. No I/O."""

import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from keyreeve_gateway.grammar.model import Family, OneOf, Option, Program, Verb
from keyreeve_gateway.grammar.parsed import Parsed

FILE, HELP = "--file", "--help"
MOST_ARGUMENTS = 4_096
MOST_CHARACTERS = 16_384
"""In one argument; no legacy command takes more."""


class UsageProblem(Exception):
    """The arguments are not of the grammar; nothing has been done."""


class HelpRequested(Exception):
    """The caller asks for the usage text of what the words name."""

    def __init__(self, words: tuple[str, ...]) -> None:
        super().__init__(" ".join(words))
        self.words = words


@dataclass(frozen=True, slots=True)
class Command:
    """A verb and what it is given."""

    words: tuple[str, ...]
    """The words that name the verb, without the program's."""
    verb: Verb
    parsed: Parsed
    file: str = ""
    """The batch file, `-` for standard input; empty: none."""


def parse_command(program: Program, argv: Sequence[str]) -> Command:
    """Find the verb and parse its arguments. Raises `UsageProblem` or `HelpRequested`."""
    check_characters(argv)
    if not argv or argv[0] in {HELP, "help"}:
        raise HelpRequested(_known_words(program, argv[1:]))
    words, verb = _find_verb(program, argv)
    rest = list(argv[len(words) :])
    if HELP in rest:
        raise HelpRequested(words)
    if verb.batch and FILE in rest:
        if len(rest) != 2 or rest[0] != FILE:
            raise UsageProblem(f"{FILE} takes one file, and stands in place of all other options")
        return Command(words, verb, Parsed(), rest[1])
    return Command(words, verb, parse_arguments(verb, rest))


def parse_arguments(verb: Verb, arguments: Sequence[str]) -> Parsed:
    """Parse what follows the words of a verb. Raises `UsageProblem`."""
    options: dict[str, tuple[str, ...]] = {}
    settings: list[tuple[str, str]] = []
    positions: list[str] = []
    known, rest = verb.options, list(arguments)
    while rest:
        word = rest.pop(0)
        option = known.get(word)
        if option is not None:
            if word in options:
                raise UsageProblem(f"{word} is given twice")
            options[word] = _take_values(option, rest, known)
        elif word.startswith("--") and verb.settings is not None and len(word) > 2:
            settings.append((word[2:], _take_setting(word, rest, list_only=verb.settings.list_only)))
        elif word.startswith("--") or not verb.arguments:
            raise UsageProblem(_unknown(word, known, options))
        else:
            positions.append(word)
    _check_rules(verb, options, positions)
    if verb.settings is not None and not verb.settings.list_only:
        _check_settings([name for name, _ in settings])
    parsed = Parsed(options, tuple(settings), tuple(positions))
    verb.check(parsed)
    return parsed


def _unknown(word: str, known: Mapping[str, Option], given: Collection[str]) -> str:
    """What is wrong with a word that is not of the grammar; what may be a password, or a part of one, is not shown."""
    name, joined, _ = word.partition("=")
    if joined and name in known:
        return f"the value of {name} follows as an argument of its own, without ="
    secrets = [one.name for one in known.values() if one.secret]
    hidden = bool(secrets) and (
        not word.startswith("--") or any(name.startswith(secret) or secret in given for secret in secrets)
    )
    what, shown = ("unknown option", name) if word.startswith("-") else ("unexpected argument", word)
    return what if hidden else f"{what} {shown}"


def _take_values(option: Option, rest: list[str], known: Mapping[str, Option]) -> tuple[str, ...]:
    if not option.value:
        return ()
    values: list[str] = []
    if option.many or option.value_optional:
        while rest and not rest[0].startswith("--") and (option.many or not values):
            values.append(rest.pop(0))
    elif rest and rest[0].partition("=")[0] not in known:
        values.append(rest.pop(0))
    if not values and not option.value_optional:
        raise UsageProblem(f"{option.name} needs a value: {option.value}")
    for value in values:
        if option.choices and value not in option.choices:
            raise UsageProblem(f"{option.name} takes one of {', '.join(option.choices)}")
        if not value:
            raise UsageProblem(f"the value of {option.name} is empty")
    return tuple(values)


def _take_setting(word: str, rest: list[str], *, list_only: bool) -> str:
    if list_only:
        return ""
    if not rest or rest[0].startswith("--"):
        raise UsageProblem(f"{word} needs a value")
    return rest.pop(0)


def _check_settings(names: Sequence[str]) -> None:
    if not names:
        raise UsageProblem("a setting is required")
    if len(set(names)) < len(names):
        raise UsageProblem("a setting is given twice")


def _check_rules(verb: Verb, options: Mapping[str, tuple[str, ...]], positions: Sequence[str]) -> None:
    for element in verb.elements:
        if isinstance(element, OneOf):
            names = [one.name for one in element.options]
            given = [name for name in names if name in options]
            if len(given) > 1:
                raise UsageProblem(f"{' and '.join(given)} exclude each other")
            if element.required and not given:
                raise UsageProblem(f"one of {', '.join(names)} is required")
        elif isinstance(element, Option) and element.required and not {element.name, element.unless} & set(options):
            raise UsageProblem(f"{element.name} is required")
    if verb.any_of and not any(name in options for name in verb.any_of):
        raise UsageProblem(f"at least one of {', '.join(verb.any_of)} is required")
    arguments = verb.arguments
    required = sum(one.required for one in arguments)
    if len(positions) < required:
        raise UsageProblem(f"{arguments[len(positions)].name} is missing")
    if len(positions) > len(arguments) and not (arguments and arguments[-1].many):
        raise UsageProblem(f"unexpected argument {positions[len(arguments)]}")


def _find_verb(program: Program, argv: Sequence[str]) -> tuple[tuple[str, ...], Verb]:
    if (verb := program.verb(argv[0])) is not None:
        return (argv[0],), verb
    family = program.family(argv[0])
    if family is None:
        raise UsageProblem(f"unknown command {_named(argv[0])}")
    if len(argv) == 1 or argv[1] in {HELP, "help"}:
        raise HelpRequested((family.name,))
    found = family.verb(argv[1])
    if found is None:
        raise UsageProblem(f"unknown command {argv[0]} {_named(argv[1])}")
    return (argv[0], argv[1]), found


def _known_words(program: Program, words: Sequence[str]) -> tuple[str, ...]:
    """The words after `help`, if they name something. Raises `UsageProblem`."""
    if not words:
        return ()
    named: Family | Verb | None = program.family(words[0]) or program.verb(words[0])
    if isinstance(named, Family) and len(words) == 2:
        named = named.verb(words[1])
    elif len(words) > 1:
        named = None
    if named is None:
        raise UsageProblem(f"unknown command {' '.join(map(_named, words[:2]))}")
    return tuple(words)


def _named(word: str) -> str:
    """A word that names nothing, without what may be the value of an option."""
    return word.partition("=")[0] if word.startswith("-") else word


def check_characters(argv: Sequence[str]) -> None:
    """Refuse arguments that are too long, or that are not printable text. Raises `UsageProblem`."""
    if len(argv) > MOST_ARGUMENTS:
        raise UsageProblem(f"a command has at most {MOST_ARGUMENTS} arguments")
    for number, argument in enumerate(argv, 1):
        if len(argument) > MOST_CHARACTERS:
            raise UsageProblem(f"argument {number} has more than {MOST_CHARACTERS} characters")
        if any(unicodedata.category(one) in {"Cc", "Cs", "Zl", "Zp"} for one in argument):
            raise UsageProblem(f"argument {number} contains a control character, or is not UTF-8")
