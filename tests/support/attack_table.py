"""The rows of the table that `make attacks` prints."""

from dataclasses import dataclass

SHOWN = "KEYREEVE_ATTACK_TABLE"
"""Environment variable that has the table printed at the end."""
HEADS = ("attack", "good client before", "during", "after", "largest worker", "what was refused")


@dataclass(frozen=True)
class Row:
    """One attack. Rates are calls per second of the good client; None: the attack is no load."""

    attack: str
    refused: str
    before: float | None = None
    during: float | None = None
    after: float | None = None
    largest: int | None = None
    """Bytes of the largest worker."""

    def cells(self) -> tuple[str, ...]:
        """The columns of the table."""
        kept = "" if not self.before or self.during is None else f" ({100 * self.during / self.before:.0f} %)"
        memory = "" if self.largest is None else f"{self.largest >> 20} MiB"
        return (self.attack, _rate(self.before), _rate(self.during) + kept, _rate(self.after), memory, self.refused)


def _rate(rate: float | None) -> str:
    return "" if rate is None else f"{rate:,.0f}/s"
