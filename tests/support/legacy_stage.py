"""The membership service and the vault in this process, for the legacy commands, with every RPC recorded."""

import sqlite3
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from google.protobuf.message import Message

from keyreeve import aio
from keyreeve._async.calls import Caller
from keyreeve._async.rotating import RotatingChannel
from keyreeve.context import Context
from keyreeve.file_values import FileSpace
from keyreeve.plaintext import Plaintext
from keyreeve_credentials.settings import VaultSettings
from support.membership import Agent, RunningMembership, membership_settings, running_membership
from support.peer_certificates import TRUST_DOMAIN
from support.service_in_process import IssuedIdentity
from support.transcripts import PlayedCommand, Recorder, Stage, several_calls
from support.uploaded_files import uploaded
from support.vault import running_vault, vault_settings

OF_NO_COMMAND = ("audit_", "leases", "member_boots", "requests", "roll_state", "sqlite_", "workers")
"""Beginnings of the names of tables that refused calls, or the services by themselves, change."""


class RecordingCaller(Caller):
    """Records calls before they are made."""

    owner: "RecordingClient"

    async def unary(self, method: str, request: Message, response: Any, timeout: Any = None) -> Any:  # noqa: ASYNC109
        self.owner.recorder.rpc(method, request)
        return await super().unary(method, request, response, timeout)

    async def upload(self, method: str, requests: Any, response: Any, timeout: Any = None) -> Any:  # noqa: ASYNC109
        self.owner.recorder.rpc(method, requests[0])
        return await super().upload(method, requests, response, timeout)

    async def download(self, method: str, request: Message, response: Any, timeout: Any = None) -> Any:  # noqa: ASYNC109
        self.owner.recorder.rpc(method, request)
        return await super().download(method, request, response, timeout)

    async def follow(self, method: str, request: Any, response: Any) -> AsyncGenerator[Any, None]:
        self.owner.recorder.rpc(method, request)
        if method.endswith("/WatchOperation"):
            await self.owner.let_agents_act(request.name)
        async for message in super().follow(method, request, response):
            yield message


class RecordingClient(aio.Client):
    """A client that records its calls, and lets agents do their part in the operations that it watches."""

    def __init__(self, context: Context, membership: RunningMembership) -> None:
        self.recorder = Recorder()
        self.agents: dict[str, Agent] = {}
        self.changed = True
        """Whether arrays have changed since every agent has reported."""
        self._membership = membership
        super().__init__(context)

    def _caller(self, channel: RotatingChannel) -> Caller:
        caller = RecordingCaller(channel, timeout=self._timeout, policy=self._policy)
        caller.owner = self
        return caller

    async def let_agents_act(self, operation: str) -> None:
        """Let agents do their part until an operation has ended."""
        await self._membership.until(operation, list(self.agents.values()))
        self.changed = True


@dataclass
class LegacyStage:
    """Running services, and what transcripts need of them."""

    membership: RunningMembership
    client: RecordingClient
    databases: tuple[Path, ...]
    """The SQLite files of the services."""
    refused: int = 0
    """Commands that were refused; the tables have been compared unless a part may have been carried out."""
    _rows: dict[str, list[str]] = field(default_factory=dict)
    """Of every table before the present command."""

    @property
    def agents(self) -> dict[str, Agent]:
        """The agents by the names of their servers."""
        return self.client.agents

    def stage(self) -> Stage:
        """What transcripts are played on."""
        return Stage(self.client, self.give, self.client.recorder, before=self.before, after=self.after)

    async def give(self, text: str) -> None:
        """Make true what a line of a transcript says."""
        admin = await self.membership.client()
        match text.split():
            case ["array", name, primary, *others]:
                first = await self._agent(primary, array_id=name.removesuffix(":"))
                for other in others:
                    await self._agent(other)
                    accepted = (await admin.membership.arrays.get(first.array)).authority_sha256
                    begun = await admin.membership.arrays.join(primary, other, accepted_sha256=accepted)
                    await self.membership.until(begun.name, list(self.agents.values()))
            case ["used", server, service, *names]:
                space = FileSpace(self.agents[server].array, server)
                await self.client.credentials.files.assign(space, service, names)
            case ["upload", server, name, kind]:
                space = FileSpace(self.agents[server].array, server)
                await self.client.credentials.files.put(space, name, Plaintext(uploaded(kind)))
            case _:
                raise NotImplementedError(text)

    async def _agent(self, server: str, **changed: Any) -> Agent:
        agent = await self.membership.agent(server, **changed)
        await agent.turn()
        self.agents[server] = agent
        return agent

    async def before(self) -> None:
        """Have everything reported, and note what the tables hold."""
        await self.everyone_reports()
        self._rows = self.rows()

    async def after(self, command: PlayedCommand, code: int) -> None:
        """Compare the tables with what they held before a refused command."""
        self.refused += code != 0
        if code and not several_calls(command.argv):
            changed = {name: (self._rows[name], rows) for name, rows in self.rows().items() if rows != self._rows[name]}
            assert not changed, (command.argv, changed)

    def rows(self) -> dict[str, list[str]]:
        """The rows of all tables that commands change, by database and table."""
        found = {}
        for file in self.databases:
            with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
                names = [name for (name,) in database.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
                for name in names:
                    if not name.startswith(OF_NO_COMMAND):
                        begun = "WHERE creator <> ''" if name == "operations" else ""  # others are the service's own
                        rows = database.execute(f'SELECT * FROM "{name}" {begun}')
                        found[f"{file.stem}.{name}"] = sorted(map(repr, rows))
        assert found.keys() >= {"membership.members", "credentials.entries", "credentials.key_files"}
        return found

    async def everyone_reports(self) -> None:
        """Wait until every agent has reported what is so."""
        if not self.client.changed:
            return
        self.client.changed = False
        await self.membership.quiet()
        for _ in range(2):
            for agent in self.agents.values():
                await agent.turn()


def can_be_given(lines: list[str]) -> bool:
    """Whether this stage can make true what a transcript says: reports are the agents' own, and so are failures."""
    return {line.split()[0] for line in lines} <= {"array", "server", "setting", "nobody", "used", "upload"}


@asynccontextmanager
async def running_stage(directory: Path) -> AsyncIterator[LegacyStage]:
    """The services until the block ends."""
    async with running_membership(directory, membership_settings(directory)) as membership:
        identity = IssuedIdentity("credentials", membership.identity.hierarchies)
        place = directory / "vault"
        place.mkdir()
        ann = (await membership.client()).context
        of_vault = VaultSettings(membership_address=ann.endpoints["membership"][0])
        async with running_vault(vault_settings(place, vault=of_vault), place, identity=identity) as vault:
            context = Context(
                TRUST_DOMAIN,
                {**ann.endpoints, "credentials": [vault.address]},
                ann.bundle,
                ann.estate_bundle,
                ann.certificate,
                ann.key,
            )
            async with RecordingClient(context, membership) as client:
                files = (directory / "state" / "membership.db", place / "state" / "credentials.db")
                yield LegacyStage(membership, client, files)
