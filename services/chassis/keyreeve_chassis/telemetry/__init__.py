"""Logs, metrics and traces of a service."""

import sys

if "rich" not in sys.modules:
    # structlog.dev imports rich where it is installed: 5 MiB in each process for a renderer that no service uses.
    sys.modules["rich"] = None  # type: ignore[assignment]
    import structlog  # noqa: F401

    del sys.modules["rich"]
