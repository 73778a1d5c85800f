"""`python -m keyreeve_SERVICE COMMAND`: the program of a service, its processes, and what an operator does beside it.

Every command but those that run processes prints one JSON document on standard output. Exit codes: 0 done, 1 refused,
3 the local admin socket does not answer, 78 the settings or the database do not allow a start.
"""

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keyreeve_chassis.keys import core_dumps
from keyreeve_chassis.processes.manager import EX_CONFIG

if TYPE_CHECKING:
    from keyreeve_chassis.service import ServiceSpec

EX_UNREACHABLE = 3
_FORK_SERVER = "fork_server"


@dataclass(frozen=True)
class LocalCommand:
    """An operator's command beside the running service; it prints `run`'s result as JSON."""

    name: str
    help: str
    run: Callable[[Any, argparse.Namespace], Coroutine[Any, Any, object]]
    """Told the settings and the arguments."""
    add_arguments: Callable[[argparse.ArgumentParser], None] = lambda _: None


@dataclass(frozen=True)
class Program:
    """The program of one service. `spec` is imported only by processes that need it, so a parent stays small."""

    service: str
    spec: Callable[[], "ServiceSpec[Any, Any]"]
    roles: Sequence[str]
    """The names of its processes: a coordinator and workers, or one solo process."""
    commands: Sequence[LocalCommand] = ()
    imported: Sequence[str] = ()
    """Modules that the fork server imports for the processes to come."""

    @property
    def solo(self) -> bool:
        """Whether the service is one process."""
        return len(self.roles) == 1

    def main(self, given: Sequence[str] | None = None) -> int:
        """Run one command: from the command line unless one is given."""
        arguments = self._parser().parse_args(given)
        os.umask(0o077)  # nothing that a service writes is for others
        core_dumps.forbid()
        if arguments.command == _FORK_SERVER:
            from keyreeve_chassis.processes import fork_server

            return fork_server.serve(self.service, self.main, self.imported)
        if arguments.command == "run" and not self.solo:
            from keyreeve_chassis.processes.managed import run_managed

            try:
                return run_managed(self.service, _passed_on(arguments))
            except ChildProcessError as failed:
                return _fail(1, str(failed))
        return self._here(arguments)

    def _parser(self) -> argparse.ArgumentParser:
        parser = argparse.ArgumentParser(
            prog=f"python -m keyreeve_{self.service}", description=f"The {self.service} service of Keyreeve."
        )
        commands = parser.add_subparsers(dest="command", required=True)

        def add(name: str, what: str) -> argparse.ArgumentParser:
            command = commands.add_parser(name, help=what, description=what)
            command.add_argument("--config", type=Path, help="YAML file of settings (docs/settings.md)")
            command.add_argument("--secrets", type=Path, help="directory of secret files, one for each setting")
            return command

        add("run", "run the service" if self.solo else "run the service: all its processes, restarted when they die")
        if not self.solo:
            for role in (*self.roles, _FORK_SERVER):
                command = add(role, "one of the processes that `run` starts")
                command.add_argument("--index", type=int, default=0, help="its number among those of its role, from 0")
        migrate = add("migrate", "bring the database to this release's schema, and end")
        migrate.add_argument(
            "--expand",
            action="store_true",
            help="leave what only removes what the release before needs, for a later run",
        )
        add("settings", "print the effective settings and where each came from")
        for local in self._local_commands:
            local.add_arguments(add(local.name, local.help))
        return parser

    @property
    def _local_commands(self) -> Sequence[LocalCommand]:
        removal = "remove what the service has made in its database; the service must not run"
        what = "print what is wrong with this installation, each finding with its fix"
        altered = "show what was altered in the trust tables, or accept them as they are, over the local socket"
        return (
            LocalCommand("check", what, self._check),
            LocalCommand("remove-database", removal, self._remove_database),
            LocalCommand("trust-tables", altered, _recover_trust_tables, _trust_table_arguments),
            *self.commands,
        )

    async def _check(self, settings: Any, _arguments: argparse.Namespace) -> object:  # noqa: ANN401  # the service's own
        from keyreeve_chassis.local_admin.client import check_instance

        return await check_instance(settings.coordinator_socket, partial(self.spec().look, settings))

    async def _remove_database(self, settings: Any, _arguments: argparse.Namespace) -> object:  # noqa: ANN401  # as above
        from keyreeve.errors import StoreUnavailable, WrongDatabase
        from keyreeve_chassis.processes.refusals import StartRefused

        schema = self.spec().schema
        try:
            removed = [] if schema is None else await asyncio.to_thread(schema.remove, settings)
        except (StartRefused, StoreUnavailable, WrongDatabase) as problem:
            return {"removed": [], "problem": getattr(problem, "message", str(problem))}
        return {"removed": removed, "problem": ""}

    def _here(self, arguments: argparse.Namespace) -> int:
        """Run a command in this process."""
        # Only here: the parent of the processes must not import what they import.
        from keyreeve_chassis.processes import lifecycle
        from keyreeve_chassis.settings.loading import SettingsRefused, describe, load

        spec = self.spec()
        try:
            loaded = load(
                spec.settings,
                arguments.config,
                spec.environment_prefix,
                environment=os.environ,
                secrets_directory=arguments.secrets,
            )
        except SettingsRefused as refused:
            return _fail(EX_CONFIG, "the settings cannot be used", *refused.problems)
        settings, command = loaded.settings, arguments.command
        if command == "settings":
            return _print([row.as_dict() for row in describe(loaded)])
        if command == "migrate":
            if spec.schema is None:
                return _fail(1, f"the {self.service} service has no database")
            migrate = partial(asyncio.to_thread, spec.schema.migrate, settings, expand=arguments.expand)
            return lifecycle.main(migrate, settings)
        for local in self._local_commands:
            if local.name == command:
                return _local(local.run(settings, arguments))
        [role] = [role for role in spec.roles if command in (role.name, "run")]
        return lifecycle.main(lambda: role.run(spec, settings, getattr(arguments, "index", 0)), settings)


def _trust_table_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--seal", action="store_true", help="accept the tables as they are")


async def _recover_trust_tables(settings: Any, arguments: argparse.Namespace) -> object:  # noqa: ANN401  # as above
    from keyreeve_chassis.local_admin.client import recover_trust_tables

    return await recover_trust_tables(settings.coordinator_socket, seal=arguments.seal)


def _passed_on(arguments: argparse.Namespace) -> list[str]:
    """The arguments that say where the settings are, for a child."""
    options = (("--config", arguments.config), ("--secrets", arguments.secrets))
    return [part for option, value in options if value is not None for part in (option, str(value))]


def _fail(code: int, *lines: str) -> int:
    """Print lines on standard error; return the exit code."""
    sys.stderr.write("\n".join(lines) + "\n")
    return code


def _local(call: Coroutine[Any, Any, object]) -> int:
    from keyreeve import errors

    try:
        return _print(asyncio.run(call))
    except errors.StoreUnavailable as unreachable:
        return _fail(EX_UNREACHABLE, unreachable.message)
    except errors.KeyreeveError as refused:
        return _fail(1, f"{refused.reason}: {refused.message}", *(v.description for v in refused.violations))


def _print(document: object) -> int:
    sys.stdout.write(json.dumps(document) + "\n")
    return 0
