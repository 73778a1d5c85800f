"""Core dumps: none of a process that has keys and passwords in its memory."""

import resource

_NOT_EVEN_FOR_A_PIPE = 1
"""Linux ignores a limit of 0 where `core_pattern` is a pipe, and aborts the dump at 1; no file is that short (core(5))."""


def forbid() -> None:
    """Forbid core dumps of this process and of those that it starts."""
    _, most = resource.getrlimit(resource.RLIMIT_CORE)
    limit = _NOT_EVEN_FOR_A_PIPE if most == resource.RLIM_INFINITY else min(most, _NOT_EVEN_FOR_A_PIPE)
    resource.setrlimit(resource.RLIMIT_CORE, (limit, limit))
