"""Programs, families, verbs, options: the grammar of the legacy commands as values."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keyreeve_gateway.grammar.parsed import Parsed
    from keyreeve_gateway.invocation import Invocation


class Source(StrEnum):
    """Where a part of the grammar comes from."""

    DOCUMENTED = "documented"
    """A manual of the legacy product has it."""
    UNDOCUMENTED = "undocumented"
    """No manual that was available has it: it is chosen here."""
    ADDED = "added"
    """The legacy product has nothing like it."""


@dataclass(frozen=True, slots=True)
class Option:
    """`--name`, `--name value` or `--name value...`."""

    name: str
    value: str = ""
    """What stands for its value in usage texts; empty: it takes none."""
    help: str = ""
    required: bool = False
    unless: str = ""
    """An option with which a required one may be left out."""
    many: bool = False
    """It takes values up to the next option."""
    value_optional: bool = False
    choices: tuple[str, ...] = ()
    secret: bool = False
    source: Source = Source.DOCUMENTED

    def require(self) -> "Option":
        """The same option, required."""
        return replace(self, required=True)


@dataclass(frozen=True, slots=True)
class OneOf:
    """Options of which at most one is given, or exactly one."""

    options: tuple[Option, ...]
    required: bool = False


@dataclass(frozen=True, slots=True)
class Settings:
    """`--name value` pairs, or with `list_only` names alone: the names are no part of the grammar."""

    list_only: bool = False


@dataclass(frozen=True, slots=True)
class Argument:
    """An argument by its position; only the last one may be optional, or stand for several."""

    name: str
    help: str = ""
    required: bool = True
    many: bool = False
    source: Source = Source.DOCUMENTED


Element = Option | OneOf | Settings | Argument


@dataclass(frozen=True, slots=True)
class Difference:
    """What differs from the legacy product, and why."""

    what: str
    why: str


def _accept(_parsed: "Parsed") -> None:
    """Accept every value."""


@dataclass(frozen=True, slots=True)
class Verb:
    """One command: its grammar, the function that carries it out, and what the documents say of it."""

    name: str
    summary: str
    run: "Callable[[Invocation], Awaitable[None]]"
    elements: tuple[Element, ...] = ()
    check: "Callable[[Parsed], object]" = _accept
    """Raises `UsageProblem` for values that are not of the grammar, before anything is called."""
    batch: bool = False
    """Whether `--file` gives one set of options per line in place of the options."""
    aliases: tuple[str, ...] = ()
    """Other spellings of its name."""
    any_of: tuple[str, ...] = ()
    """Options of which at least one is required."""
    rpcs: tuple[str, ...] = ()
    """The RPCs that it becomes."""
    differences: tuple[Difference, ...] = ()
    source: Source = Source.DOCUMENTED
    """Where its name comes from."""

    @property
    def options(self) -> dict[str, Option]:
        """Its options by name."""
        found: dict[str, Option] = {}
        for element in self.elements:
            members = element.options if isinstance(element, OneOf) else (element,)
            found |= {one.name: one for one in members if isinstance(one, Option)}
        return found

    @property
    def arguments(self) -> tuple[Argument, ...]:
        """Its arguments in order."""
        return tuple(one for one in self.elements if isinstance(one, Argument))

    @property
    def settings(self) -> Settings | None:
        """How it takes settings, if it does."""
        return next((one for one in self.elements if isinstance(one, Settings)), None)


@dataclass(frozen=True, slots=True)
class Family:
    """Commands with a common first word."""

    name: str
    summary: str
    verbs: tuple[Verb, ...]

    def verb(self, name: str) -> Verb | None:
        """The verb of this name."""
        return next((one for one in self.verbs if name == one.name or name in one.aliases), None)


@dataclass(frozen=True, slots=True)
class Program:
    """A legacy program: families of verbs, and verbs of one word."""

    name: str
    summary: str
    families: tuple[Family, ...]
    verbs: tuple[Verb, ...] = ()
    failure_prefix: str = ""
    """What a line about a failure begins with; empty: with the words of the command."""

    def family(self, name: str) -> Family | None:
        """The family of this name."""
        return next((one for one in self.families if one.name == name), None)

    def verb(self, name: str) -> Verb | None:
        """The verb of one word with this name."""
        return next((one for one in self.verbs if one.name == name), None)

    def commands(self) -> list[tuple[tuple[str, ...], Verb]]:
        """Every verb with the words that name it."""
        found: list[tuple[tuple[str, ...], Verb]] = [((verb.name,), verb) for verb in self.verbs]
        return [((family.name, verb.name), verb) for family in self.families for verb in family.verbs] + found
