"""The rows of the table that `make attacks` prints."""

from dataclasses import dataclass

SHOWN = "KEYREEVE_ATTACK_TABLE"
"""Environment variable that has the table printed at the end."""
HEADS = (
    "attack",
    "good client before",
    "beside a busy processor",
    "during",
    "after",
    "processor: attacker, service",
    "largest worker",
    "what was refused",
)


@dataclass(frozen=True)
class Row:
    """One attack. Rates are calls per second of the good client; None: the attack is no load."""

    attack: str
    refused: str
    before: float | None = None
    beside: float | None = None
    """While another process took as much of the processor as the attacker does, and called nobody."""
    during: float | None = None
    after: float | None = None
    processors: tuple[float, float] | None = None
    """Shares of a processor that the attacker took, and the service for all that it did meanwhile."""
    largest: int | None = None
    """Bytes of the largest worker."""

    def cells(self) -> tuple[str, ...]:
        """The columns of the table."""
        kept = "" if not self.beside or self.during is None else f" ({100 * self.during / self.beside:.0f} %)"
        memory = "" if self.largest is None else f"{self.largest >> 20} MiB"
        rates = (_rate(self.before), _rate(self.beside), _rate(self.during) + kept, _rate(self.after))
        processors = "" if self.processors is None else f"{self.processors[0]:.0%}, {self.processors[1]:.0%}"
        return (self.attack, *rates, processors, memory, self.refused)


def _rate(rate: float | None) -> str:
    return "" if rate is None else f"{rate:,.0f}/s"
