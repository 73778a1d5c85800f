"""What a verb is given."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Parsed:
    """The options, settings and arguments of one command."""

    options: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    settings: tuple[tuple[str, str], ...] = ()
    """Names without dashes, and values."""
    arguments: tuple[str, ...] = ()

    def given(self, name: str) -> bool:
        """Whether an option is given."""
        return name in self.options

    def text(self, name: str, default: str = "") -> str:
        """The value of an option, or the default."""
        values = self.options.get(name, ())
        return values[0] if values else default

    def many(self, name: str) -> tuple[str, ...]:
        """The values of an option."""
        return self.options.get(name, ())

    def argument(self, position: int, default: str = "") -> str:
        """The argument at a position, from 0."""
        return self.arguments[position] if position < len(self.arguments) else default
