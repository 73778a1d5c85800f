"""The command `keyreeve-agent`, on the standard library's parser: the agent's memory is bounded."""

import argparse
import asyncio
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from keyreeve.errors import KeyreeveError
from keyreeve_agent.settings import DEFAULT_FILE, AgentSettings, load_settings

EX_CONFIG = 78
"""sysexits.h: systemd does not restart the agent for it."""
_OF_THE_EXTRA = frozenset({"structlog", "yaml"})


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parsed = _parser().parse_args(arguments)
    try:
        settings = load_settings(parsed.config)
        code: int = parsed.run(settings, parsed)
    except KeyreeveError as failure:
        print(f"{failure.reason}: {failure.message}\n{failure.fix}", file=sys.stderr)  # noqa: T201
        return EX_CONFIG if failure.reason in {"CONTEXT_INVALID", "NOT_ENROLLED"} else 1
    except ModuleNotFoundError as missing:
        if missing.name not in _OF_THE_EXTRA:
            raise
        print(f"the package {missing.name} is missing: pip install 'keyreeve[agent]'", file=sys.stderr)  # noqa: T201
        return EX_CONFIG
    except KeyboardInterrupt:
        return 130
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="keyreeve-agent", description="The agent of one member of an array.")
    parser.add_argument("--config", type=Path, default=DEFAULT_FILE, help=f"settings file (default {DEFAULT_FILE})")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    enroll = commands.add_parser("enroll", help="get the control certificate with an enrollment token")
    enroll.add_argument("--token", type=Path, required=True, metavar="FILE", help="file with the token, - for stdin")
    enroll.set_defaults(run=_enroll)
    commands.add_parser("run", help="run the agent until it is stopped").set_defaults(run=_run)
    status = commands.add_parser("status", help="print what the agent sees")
    status.add_argument("--json", action="store_true", help="print JSON")
    status.set_defaults(run=_status)
    check = commands.add_parser("check", help="dial a member: the connect check, then a ping")
    check.add_argument("peer", metavar="PEER", help="peer DNS name")
    check.set_defaults(run=_check)
    commands.add_parser("renew", help="have the running agent get a new peer certificate").set_defaults(run=_renew)
    leave = commands.add_parser("leave", help="give up the identity: revoke the certificate, delete all keys")
    leave.add_argument("--yes", action="store_true", help="do it")
    leave.set_defaults(run=_leave)
    return parser


def _enroll(settings: AgentSettings, parsed: argparse.Namespace) -> int:
    from keyreeve import aio
    from keyreeve.enrollment_token import EnrollmentToken
    from keyreeve.errors import FileUnusable, TokenMalformed
    from keyreeve.files import write_atomically
    from keyreeve.identity import Role

    try:
        text = sys.stdin.read() if str(parsed.token) == "-" else parsed.token.read_text("ascii")
    except (OSError, ValueError) as failure:
        raise FileUnusable(f"cannot read the token: {failure}") from None
    token = EnrollmentToken.parse(text.strip())
    if token.identity.role is not Role.MEMBER:
        raise TokenMalformed(f"the token is for {token.identity}, which is no member of an array")
    settings.state_directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    asyncio.run(aio.enroll(token, settings.control))
    write_atomically(settings.enrollment_file, f"{token.address}\n".encode())
    print(f"enrolled as {token.identity}")  # noqa: T201
    return 0


def _run(settings: AgentSettings, _: argparse.Namespace) -> int:
    from keyreeve_chassis.keys import core_dumps
    from keyreeve_chassis.telemetry import logging as log_setup

    core_dumps.forbid()
    log_setup.configure(settings.log_level, color=sys.stderr.isatty())
    from keyreeve_agent.app import run

    asyncio.run(run(settings))
    return 0


def _status(settings: AgentSettings, parsed: argparse.Namespace) -> int:
    from keyreeve_agent.app import read_status, running_agent
    from keyreeve_agent.status import status_lines

    status = read_status(settings.status_file)
    running = running_agent(settings) is not None
    text = json.dumps({**status, "running": running}) if parsed.json else None
    print(text or "\n".join(status_lines(status, time.time(), running=running)))  # noqa: T201
    return 0 if running and not status["problems"] else 1


def _check(settings: AgentSettings, parsed: argparse.Namespace) -> int:
    from keyreeve_agent.app import dialer_of, loaded_view

    view = loaded_view(settings)
    member = view.roll.get(parsed.peer)
    if member is None:
        print(f"{parsed.peer} is not in the roll of {view.array}", file=sys.stderr)  # noqa: T201
        return 1
    reach = asyncio.run(dialer_of(settings, view).dial(member))
    answer = (
        f"reachable, epoch {reach.epoch}, clock {reach.clock_difference_ms:+d} ms" if reach.reachable else reach.problem
    )
    print(f"{member.name} at {member.address}: {answer}")  # noqa: T201
    return 0 if reach.reachable else 1


def _renew(settings: AgentSettings, _: argparse.Namespace) -> int:
    from keyreeve_agent.app import running_agent

    process = running_agent(settings)
    if process is None:
        print("no agent runs: it renews by itself when it starts and is due", file=sys.stderr)  # noqa: T201
        return 1
    os.kill(process, signal.SIGHUP)
    print("the agent has been told to renew its peer certificate")  # noqa: T201
    return 0


def _leave(settings: AgentSettings, parsed: argparse.Namespace) -> int:
    from keyreeve_agent.app import identity_of, running_agent
    from keyreeve_agent.leaving import leave_array

    identity = identity_of(settings)
    if not parsed.yes:
        print(f"this deletes the keys of {identity}: repeat it with --yes", file=sys.stderr)  # noqa: T201
        return 1
    if running_agent(settings) is not None:
        print("the agent runs: stop it first", file=sys.stderr)  # noqa: T201
        return 1
    asyncio.run(leave_array(settings))
    shutil.rmtree(settings.state_directory)
    print(f"{identity} has left")  # noqa: T201
    return 0
