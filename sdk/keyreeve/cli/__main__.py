"""`python -m keyreeve.cli` is the same as `keyreeve`."""

from keyreeve.cli import main

main()
