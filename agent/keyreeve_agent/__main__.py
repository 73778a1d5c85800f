"""`python -m keyreeve_agent`."""

import sys

from keyreeve_agent.commands import main

if __name__ == "__main__":
    sys.exit(main())
