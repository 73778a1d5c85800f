"""Failpoints: durable steps at which a test can make a process crash, fail, wait or stop.

A port registers its failpoints where it is defined and calls `hit` at each. Unless armed by the environment, `hit`
compares one global with None. Arming takes two variables, so that a stray one cannot hurt a production service.
"""

import itertools
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

ARM_VARIABLE = "KEYREEVE_FAILPOINTS"
ALLOW_VARIABLE = "KEYREEVE_ALLOW_FAILPOINTS"
ACTIONS = ("crash", "raise", "delay", "pause")

_NAME = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)+\Z")
_registry: dict[str, str] = {}


class FailpointRaised(Exception):
    """The failure that an armed failpoint raises."""


class FailpointsRefused(Exception):
    """The environment arms failpoints where that is not allowed, or with bad syntax."""


@dataclass(slots=True)
class _Armed:
    action: Callable[[], None]
    only: int | None
    """Act at this hit alone; None means at every one."""
    hits: "itertools.count[int]"


def register(name: str, doc: str) -> str:
    """Register a failpoint with one sentence on the state at it; return its name."""
    if not _NAME.match(name):
        raise ValueError(f"a failpoint is named like ca.commit.before, not {name!r}")
    if _registry.setdefault(name, doc) != doc:
        raise ValueError(f"the failpoint {name} is registered twice with different meanings")
    return name


def registered() -> Mapping[str, str]:
    """Every failpoint of the imported modules, with its documentation."""
    return dict(sorted(_registry.items()))


_UNARMED: dict[str, None] = {}
hit: Callable[[str], None] = _UNARMED.get
"""Act if the failpoint is armed. Call it as `failpoints.hit(NAME)`, outside of locks that the test's other threads need.

`arm` replaces it. Where nothing is armed, production pays a look-up in an empty dictionary.
"""


def arm(environment: Mapping[str, str]) -> None:
    """Arm the failpoints of `KEYREEVE_FAILPOINTS`, replacing what was armed; none when it is empty.

    Called once when a process starts, after its modules are imported. Raises `FailpointsRefused`.
    """
    global hit  # noqa: PLW0603
    text = environment.get(ARM_VARIABLE, "")
    if not text:
        hit = _UNARMED.get
        return
    if environment.get(ALLOW_VARIABLE) != "1":
        raise FailpointsRefused(f"{ARM_VARIABLE} is set and {ALLOW_VARIABLE} is not 1: unset the former")
    armed: dict[str, _Armed] = {}
    own = {name.partition(".")[0] for name in _registry}
    for entry in text.split(","):
        name, _, what = entry.strip().partition("=")
        # Several services may have the same environment: what begins like no failpoint here is another one's.
        if _NAME.match(name) is None or name.partition(".")[0] in own:
            armed[name] = _parse(name, what)
    hit = partial(_act, armed=armed)


def _parse(name: str, what: str) -> _Armed:
    if name not in _registry:
        raise FailpointsRefused(f"{ARM_VARIABLE}: no failpoint is named {name!r}; there are {', '.join(registered())}")
    action, _, at = what.partition("@")
    word, _, argument = action.partition(":")
    if at and not (at.isascii() and at.isdecimal() and int(at) >= 1):
        raise FailpointsRefused(f"{ARM_VARIABLE}: {name}: @{at} is not a number from 1")
    return _Armed(_action(name, word, argument), int(at) if at else None, itertools.count(1))


def _action(name: str, word: str, argument: str) -> Callable[[], None]:
    if argument and word != "delay":
        raise FailpointsRefused(f"{ARM_VARIABLE}: {name}: {word} takes no argument")
    match word:
        case "crash":
            return lambda: _signal_self(signal.SIGKILL)
        case "pause":
            return lambda: _signal_self(signal.SIGSTOP)
        case "raise":
            return lambda: _raise(name)
        case "delay":
            try:
                seconds = float(argument)
            except ValueError:
                raise FailpointsRefused(f"{ARM_VARIABLE}: {name}: delay:{argument} is not in seconds") from None
            return lambda: time.sleep(seconds)
    raise FailpointsRefused(f"{ARM_VARIABLE}: {name}: the action {word!r} is none of {', '.join(ACTIONS)}")


def _act(name: str, armed: dict[str, _Armed]) -> None:
    if name not in _registry:
        raise LookupError(f"the failpoint {name} was hit and never registered")
    point = armed.get(name)
    if point is not None and point.only in {None, next(point.hits)}:
        point.action()


def _raise(name: str) -> None:
    raise FailpointRaised(f"failpoint {name} in thread {threading.current_thread().name}")


def _signal_self(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)
