"""The standard output of the service as a whole, which a container's logs are collected from.

That of a forked process is a pipe to the manager, which reads from it that the process is ready, and nothing after that.
"""

import os

_STANDARD_OUTPUT = 1
_of_service = _STANDARD_OUTPUT


def service_output() -> int:
    """The descriptor of the standard output with which the service was started."""
    return _of_service


def keep_service_output() -> None:
    """Keep it open in a forked process, whose own standard output is about to be replaced."""
    global _of_service  # noqa: PLW0603 - a process has one
    _of_service = os.dup(_STANDARD_OUTPUT)
