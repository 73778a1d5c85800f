"""`python -m support.inventory_service COMMAND`: its program."""

import sys
from importlib import import_module

from keyreeve_chassis.processes.program import Program

PROGRAM = Program("membership", lambda: import_module("support.inventory_service.service").SPEC, roles=("solo",))

if __name__ == "__main__":
    sys.exit(PROGRAM.main())
