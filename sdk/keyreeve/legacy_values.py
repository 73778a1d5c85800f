"""Values of the gateway's legacy commands."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class LegacyCommandLine:
    """A command line for the gateway."""

    program: str
    """`tarantella` or `mmp`."""
    arguments: Sequence[str]
    """Without the program; bytes that are no UTF-8 as surrogates, as in `sys.argv`."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """`KEYREEVE_SERVER`, `KEYREEVE_ARRAY`, `HOSTNAME`, as far as they are set."""
