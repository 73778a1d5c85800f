import json
import subprocess
import sys

import pytest
from pydantic import SecretStr

from keyreeve_chassis.telemetry.line_limit import BURST, BURST_OF_ALL, LineLimit
from keyreeve_chassis.telemetry.logging import REDACTED, redact

PEM = "-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("password", "hunter2"),
        ("db_password", "hunter2"),
        ("token", "hunter2"),
        ("client_secret", "hunter2"),
        ("key", "hunter2"),
        ("api-key", "hunter2"),
        ("key_pem", "hunter2"),
        ("Passphrase", "hunter2"),
        ("nested", {"a": [{"token": "hunter2"}]}),
        ("value", SecretStr("hunter2")),
        ("data", b"hunter2"),
        ("data", [bytearray(b"hunter2")]),
        ("text", f"before {PEM.replace('MIIB', 'hunter2')} after"),
        ("argv", f"keyreeve enroll krt1_{'A' * 40}hunter2"),
        ("cut", "-----BEGIN EC PRIVATE KEY-----\nhunter2"),
        ("deep", [[[[[[[[[["hunter2"]]]]]]]]]]),
    ],
)
def test_what_looks_like_a_secret_is_not_written(key, value):
    text = json.dumps(redact(None, "info", {"event": "x", key: value}))
    assert "hunter2" not in text
    assert REDACTED in text


def test_what_does_not_is_written():
    event = {"event": "x", "method": "/a.B/C", "keys": 3, "monkey": "ape", "ok": True, "nothing": None, "ms": 1.5}
    assert redact(None, "info", dict(event)) == event


def run(program: str) -> tuple[int, str, list[dict]]:
    """Logs are the whole process's, so they are tried in one of their own."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout, [json.loads(line) for line in done.stderr.splitlines()]


BEGIN = """
import asyncio, logging, threading, structlog
from keyreeve_chassis.telemetry.logging import bind, configure, report_loop_failures
configure("info")
log = structlog.get_logger("room")
"""


def test_structlog_and_the_standard_library_write_json_with_what_is_bound():
    code, out, lines = run(
        BEGIN
        + "with bind(request_id='r-1', peer='p'):\n    log.info('one', n=1)\n    logging.getLogger('lib').warning('two %s', 2)\n"
        "log.debug('hidden')\nlogging.getLogger('lib').debug('hidden')\n"
    )
    assert (code, out) == (0, "")
    assert [(one["event"], one["level"], one["request_id"], one["peer"]) for one in lines] == [
        ("one", "info", "r-1", "p"),
        ("two 2", "warning", "r-1", "p"),
    ]
    assert all(one["timestamp"].endswith("Z") for one in lines)


def test_a_traceback_is_written_without_local_variables():
    _, _, lines = run(
        BEGIN + "def sign(private):\n    raise ValueError('bad')\n"
        "try:\n    sign('hunter2')\nexcept ValueError:\n    log.exception('one')\n    logging.exception('two')\n"
    )
    assert [one["exception"][0]["exc_value"] for one in lines] == ["bad", "bad"]
    assert "hunter2" not in json.dumps(lines)


def test_uncaught_exceptions_are_logged_wherever_they_were_raised():
    code, _, lines = run(
        BEGIN + "async def main():\n"
        "    report_loop_failures(asyncio.get_running_loop())\n"
        "    asyncio.get_running_loop().call_soon(lambda: 1 / 0)\n"
        "    thread = threading.Thread(target=lambda: [][0])\n"
        "    thread.start()\n"
        "    thread.join()\n"
        "asyncio.run(main())\n"
        "raise RuntimeError('end')\n"
    )
    assert code == 1
    assert sorted(one["exception"][0]["exc_type"] for one in lines) == [
        "IndexError",
        "RuntimeError",
        "ZeroDivisionError",
    ]


def test_color_is_for_terminals_and_has_no_local_variables_either():
    program = BEGIN.replace('configure("info")', 'configure("info", color=True)')
    program += "def sign(private):\n    raise ValueError('bad')\n"
    program += "try:\n    sign('hunter' + str(2))\nexcept ValueError:\n    log.exception('one')\n"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert "ValueError" in done.stderr
    assert "hunter2" not in done.stderr


def test_the_lines_of_each_source_are_limited_and_say_what_was_left_out():
    _, _, lines = run(
        BEGIN + "import warnings\nseconds = [0.0]\nconfigure('info', clock=lambda: seconds[0])\n"
        "for number in range(500):\n"
        "    log.info('handshake failed', peer=number)\n"
        "    logging.getLogger('aiohttp.server').error('bad request %d', number)\n"
        "    warnings.warn_explicit(f'odd {number}', UserWarning, 'there.py', number)\n"
        "seconds[0] = 0.5\n"
        "log.info('handshake failed', peer='last')\n"
        "logging.getLogger('aiohttp.server').error('last')\n"
        "logging.getLogger('keyreeve.other').info('something else')\n"
    )
    sources = [one.get("logger", one["event"]) for one in lines]
    for source in ("handshake failed", "aiohttp.server", "py.warnings"):
        assert sources.count(source) in (BURST, BURST + 1)
    assert [one.get("omitted_before", 0) for one in lines[-3:]] == [450, 450, 0]
    assert lines[-1]["event"] == "something else"


def test_a_library_and_the_network_cause_no_traceback():
    _, _, lines = run(
        BEGIN + "try:\n    int('what a peer sent')\nexcept ValueError:\n"
        "    logging.getLogger('aiohttp.server').exception('Error handling %s', 'it')\n"
        "async def main():\n"
        "    report_loop_failures(asyncio.get_running_loop())\n"
        "    async def fails(): raise ConnectionResetError('gone')\n"
        "    task = asyncio.ensure_future(fails())\n"
        "    await asyncio.wait([task])\n"
        "asyncio.run(main())\n"
    )
    assert len(lines) == 2
    assert not [one for one in lines if "exception" in one]
    assert "what a peer sent" in lines[0]["event"]
    assert "gone" in lines[1]["error"]


def test_sources_beyond_the_most_share_one_limit():
    limit = LineLimit(lambda: 0.0)
    admitted = sum(limit.admit(f"source {number}") is not None for number in range(5000))
    assert admitted == BURST_OF_ALL
