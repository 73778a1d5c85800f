"""The failpoints of membership's changes, and which of them a run of tests takes."""

import os
import zlib

from keyreeve_chassis.processes import failpoints
from keyreeve_membership import app

assert app.SPEC, "imported for the failpoints that it registers"
FAILPOINTS = sorted(
    name for name in failpoints.registered() if name.startswith("membership.") and ".commit." not in name
)
"""Those of commits are the chassis's, and are passed by every call."""
SEED = int(os.environ.get("KEYREEVE_SEED", "0")) or zlib.crc32(
    os.environ.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid())).encode()  # pytest-xdist collects in several processes
)
"""Chooses them in the short form; a test prints it."""
EVERY = "KEYREEVE_KILLS" in os.environ
"""The long form takes all."""
