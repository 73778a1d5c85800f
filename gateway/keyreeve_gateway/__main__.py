"""`python -m keyreeve_gateway COMMAND`: the gateway service (keyreeve_chassis.processes.program)."""

import sys
from typing import TYPE_CHECKING, Any

from keyreeve_chassis.processes.program import Program

if TYPE_CHECKING:
    from keyreeve_chassis.service import ServiceSpec


def _spec() -> "ServiceSpec[Any, Any]":
    from keyreeve_gateway.app import SPEC

    return SPEC


PROGRAM = Program("gateway", _spec, roles=("solo",))
main = PROGRAM.main

if __name__ == "__main__":
    sys.exit(main())
