"""A service that does nothing but run until SIGTERM: `python -m fakes.idle_service run --config FILE`.

A file `refuse` beside the configuration makes it end at once with the exit code that the file holds.
"""

import signal
import sys
from pathlib import Path

refusal = Path(sys.argv[3]).with_name("refuse")
if refusal.exists():
    sys.exit(int(refusal.read_text()))
signal.sigwait({signal.SIGTERM})
