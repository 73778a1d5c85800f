"""Logs: one JSON object a line on stderr (colored text on a terminal), for structlog and the standard library alike.

`bind(request_id=..., peer=...)` adds facts to every line of the present task. What looks like a secret is replaced
before it is written, wherever it is nested. The lines of each source (a logger of the standard library, a text of our
own) are limited in rate; those of libraries, and those about the network, have no traceback.
"""

import asyncio
import logging
import re
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

import structlog
from structlog.contextvars import bound_contextvars, merge_contextvars
from structlog.typing import EventDict, Processor, WrappedLogger

from keyreeve_chassis.telemetry.line_limit import KEPT_FROM_CALLS, SOURCE, LineLimit

REDACTED = "***"
LEVELS = ("debug", "info", "warning", "error")

_SECRET_KEY = re.compile(
    r"password|passphrase|secret|token|(^|[_-])key$|^key([_-](pem|der|bytes))|private", re.IGNORECASE
)
_PRIVATE_PEM = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL)
_TOKEN = re.compile(r"krt[0-9]_[A-Za-z0-9_-]{16,}")
"""Enrollment tokens (keyreeve/enrollment_token.py)."""
_NESTING = 8
_OWN = ("keyreeve", "root")
"""How the names of our own loggers begin."""
_OMITTED = "omitted_before"
"""How many lines of its source were left out before a line."""


def configure(level: str = "info", *, color: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
    """Send all logs of this process to stderr, and uncaught exceptions too. `level` is one of `LEVELS`.

    `clock` counts seconds, for the rate of lines.
    """
    number = logging.getLevelNamesMapping()[level.upper()]
    limit = _Limit(LineLimit(clock))
    shared: list[Processor] = [
        merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    # Tracebacks without local variables: the locals of a failing signature are its key.
    tracebacks = structlog.processors.ExceptionRenderer(
        structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
    )
    written: list[Processor] = [tracebacks, redact, structlog.processors.JSONRenderer(default=repr)]
    if color:
        written = [redact, structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
    structlog.configure(
        processors=[limit, *shared, *written],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(limit.filter)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name, _say_omitted],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *written],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(number)
    logging.captureWarnings(True)
    logging.raiseExceptions = False  # a line that cannot be written is lost, without a text on standard error
    sys.excepthook = _uncaught
    threading.excepthook = _uncaught_in_thread
    sys.unraisablehook = _unraisable


def report_loop_failures(loop: asyncio.AbstractEventLoop) -> None:
    """Log exceptions of tasks that were never awaited, instead of asyncio's own text."""
    loop.set_exception_handler(_uncaught_in_loop)


def bind(**facts: object) -> AbstractContextManager[None]:
    """Add facts to every log line written inside the context, in this task and those it starts."""
    return bound_contextvars(**facts)


class _Limit:
    """Applies a `LineLimit` to the lines of structlog, as a processor, and to the standard library's, as a filter."""

    def __init__(self, lines: LineLimit) -> None:
        self._lines = lines

    def __call__(self, _: WrappedLogger, __: str, event: EventDict) -> EventDict:
        if SOURCE in event:  # a call (calls.py)
            source = event.pop(SOURCE)
            if source is None:
                return event
            omitted = self._lines.admit(source, keep=KEPT_FROM_CALLS)
        else:
            omitted = self._lines.admit(str(event.get("event")))
        if omitted is None:
            raise structlog.DropEvent
        if omitted:
            event[_OMITTED] = omitted
        return event

    def filter(self, record: logging.LogRecord) -> bool:
        """Say whether a record is written; without a traceback if it is a library's, which input may have caused."""
        own = record.name.startswith(_OWN)
        omitted = self._lines.admit(f"{record.name} {record.msg}" if own else record.name)
        if omitted is None:
            return False
        if record.exc_info and not own:
            record.msg, record.args = f"{record.getMessage()} ({record.exc_info[1]!r})", ()
            record.exc_info = record.exc_text = None
        setattr(record, _OMITTED, omitted)
        return True


def _say_omitted(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    if omitted := getattr(event.get("_record"), _OMITTED, 0):
        event[_OMITTED] = omitted
    return event


def redact(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Replace secrets by `***`: values under secret-sounding names, secret types, bytes, and private keys inside any text."""
    return {key: _clean(key, value, _NESTING) for key, value in event.items()}


def _clean(key: str, value: Any, depth: int) -> Any:  # noqa: ANN401  # any logged value
    match value:
        case None | bool():
            cleaned: Any = value
        case str():
            cleaned = REDACTED if _SECRET_KEY.search(key) else _without_secrets(value)
        case int() | float():
            cleaned = REDACTED if _SECRET_KEY.search(key) else value
        case bytes() | bytearray() | memoryview():
            cleaned = f"{REDACTED} ({len(value)} bytes)"
        case _ if hasattr(value, "get_secret_value"):  # pydantic's; importing it would cost every process its memory
            cleaned = REDACTED
        case Mapping() if depth:
            cleaned = {str(name): _clean(str(name), one, depth - 1) for name, one in value.items()}
        case list() | set() | frozenset() if depth:
            cleaned = [_clean(key, one, depth - 1) for one in value]
        case tuple() if key != "exc_info" and depth:
            cleaned = [_clean(key, one, depth - 1) for one in value]
        case Mapping() | list() | tuple() | set() | frozenset() if key != "exc_info":
            cleaned = REDACTED  # nested deeper than anybody logs on purpose
        case _:
            cleaned = value
    return cleaned


def _without_secrets(text: str) -> str:
    return _TOKEN.sub(REDACTED, _PRIVATE_PEM.sub(REDACTED, text))


def _uncaught(kind: type[BaseException], failure: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, failure, trace)
        return
    structlog.get_logger("keyreeve").critical("uncaught exception", exc_info=(kind, failure, trace))


def _uncaught_in_thread(arguments: threading.ExceptHookArgs) -> None:
    if arguments.exc_value is not None:
        name = arguments.thread.name if arguments.thread is not None else None
        structlog.get_logger("keyreeve").critical(
            "uncaught exception in a thread", thread=name, exc_info=arguments.exc_value
        )


def _uncaught_in_loop(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    failure = context.get("exception")
    log, text = structlog.get_logger("keyreeve"), "uncaught exception in a task"
    if isinstance(failure, OSError):  # a peer that is gone, and the like: no fault of ours
        log.warning(text, message=context.get("message"), error=repr(failure))
    else:
        log.error(text, message=context.get("message"), exc_info=failure)


def _unraisable(found: "sys.UnraisableHookArgs") -> None:
    structlog.get_logger("keyreeve").error(
        "exception that could not be raised", message=found.err_msg, exc_info=found.exc_value
    )
