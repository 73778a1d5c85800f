"""`python -m keyreeve_ca COMMAND`: the CA service, and what an operator does beside it (keyreeve_chassis.processes.program)."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keyreeve_chassis.processes.program import LocalCommand, Program

if TYPE_CHECKING:
    from keyreeve_ca.settings import CaSettings
    from keyreeve_chassis.service import ServiceSpec


def _spec() -> "ServiceSpec[Any, Any]":
    from keyreeve_ca.spec import SPEC

    return SPEC


async def _recover(settings: "CaSettings", arguments: argparse.Namespace) -> object:
    from keyreeve_ca import local_admin

    return await local_admin.recover(settings.coordinator_socket, arguments.operator, arguments.address)


async def _first_operator(settings: "CaSettings", arguments: argparse.Namespace) -> object:
    from keyreeve_ca import local_admin

    return await local_admin.first_operator(settings.coordinator_socket, arguments.name, sys.stdin.buffer.read())


async def _service_token(settings: "CaSettings", arguments: argparse.Namespace) -> object:
    from keyreeve_ca import local_admin

    socket: Path = settings.coordinator_socket
    return await local_admin.service_token(socket, arguments.service, arguments.instance, arguments.address)


async def _resume_issuance(settings: "CaSettings", arguments: argparse.Namespace) -> object:
    from keyreeve_ca import local_admin

    return await local_admin.resume_issuance(settings.coordinator_socket, arguments.reason)


def _resume_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--reason", required=True, help="why, for the audit log")


def _recover_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--operator", help="make a one-time token for an admin of this name, too")
    command.add_argument("--address", default="", help="host:port of the enrollment listener as they reach it")


def _first_operator_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--name", required=True, help="the last part of the operator's SPIFFE ID")


def _service_token_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--service", required=True, help="membership, credentials or gateway")
    command.add_argument("--instance", required=True, help="its name among the instances of the service")
    command.add_argument("--address", default="", help="host:port of the enrollment listener as it reaches it")


PROGRAM = Program(
    service="ca",
    spec=_spec,
    roles=("coordinator", "worker"),
    commands=(
        LocalCommand(
            "recover",
            "replace what has expired, over the local socket, and print what was done",
            _recover,
            _recover_arguments,
        ),
        LocalCommand(
            "first-operator",
            "certify the key in the CSR on standard input as an admin, over the local socket",
            _first_operator,
            _first_operator_arguments,
        ),
        LocalCommand(
            "resume-issuance",
            "resume halted issuance without a second person, over the local socket",
            _resume_issuance,
            _resume_arguments,
        ),
        LocalCommand(
            "service-token",
            "make an enrollment token for an instance of another service, over the local socket",
            _service_token,
            _service_token_arguments,
        ),
    ),
    imported=(
        "keyreeve_ca.coordinator",
        "keyreeve_ca.worker",
        "keyreeve_ca.local_admin",
        # What these import once they run.
        "sqlalchemy.dialects.postgresql.psycopg",
        "sqlalchemy.dialects.sqlite.pysqlite",
    ),
)
main = PROGRAM.main

if __name__ == "__main__":
    sys.exit(main())
