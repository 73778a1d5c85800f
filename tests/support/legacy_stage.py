"""The membership service and the vault in this process, for the legacy commands, with every RPC recorded."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
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
from support.membership import Agent, RunningMembership, membership_settings, running_membership
from support.peer_certificates import TRUST_DOMAIN
from support.service_in_process import IssuedIdentity
from support.transcripts import Recorder, Stage
from support.uploaded_files import uploaded
from support.vault import running_vault, vault_settings


class RecordingCaller(Caller):
    """Records calls before they are made."""

    recorder: Recorder

    async def unary(self, method: str, request: Message, response: Any, timeout: Any = None) -> Any:  # noqa: ASYNC109
        self.recorder.rpc(method, request)
        return await super().unary(method, request, response, timeout)

    async def upload(self, method: str, requests: Any, response: Any, timeout: Any = None) -> Any:  # noqa: ASYNC109
        self.recorder.rpc(method, requests[0])
        return await super().upload(method, requests, response, timeout)

    async def download(self, method: str, request: Message, response: Any, timeout: Any = None) -> Any:  # noqa: ASYNC109
        self.recorder.rpc(method, request)
        return await super().download(method, request, response, timeout)


class RecordingClient(aio.Client):
    """A client that records its calls."""

    def __init__(self, context: Context, recorder: Recorder) -> None:
        self._recorder = recorder
        super().__init__(context)

    def _caller(self, channel: RotatingChannel) -> Caller:
        caller = RecordingCaller(channel, timeout=self._timeout, policy=self._policy)
        caller.recorder = self._recorder
        return caller


@dataclass
class LegacyStage:
    """Running services, and what transcripts need of them."""

    membership: RunningMembership
    client: RecordingClient
    recorder: Recorder
    agents: dict[str, Agent] = field(default_factory=dict)

    def stage(self) -> Stage:
        """What transcripts are played on."""
        return Stage(self.client, self.give, self.recorder)

    async def give(self, text: str) -> None:
        """Make true what a line of a transcript says."""
        match text.split():
            case ["array", name, server]:
                agent = await self.membership.agent(server, array_id=name.removesuffix(":"))
                await agent.report()
                self.agents[server] = agent
            case ["used", server, service, *names]:
                space = FileSpace(self.agents[server].array, server)
                await self.client.credentials.files.assign(space, service, names)
            case ["upload", server, name, kind]:
                space = FileSpace(self.agents[server].array, server)
                await self.client.credentials.files.put(space, name, Plaintext(uploaded(kind)))
            case _:
                raise NotImplementedError(text)


def can_be_given(lines: list[str]) -> bool:
    """Whether this stage can make true what a transcript says."""
    return all(not line.startswith(("array", "report")) or len(line.split()) == 3 for line in lines) and not any(
        line.startswith("report") for line in lines
    )


@asynccontextmanager
async def running_stage(directory: Path) -> AsyncIterator[LegacyStage]:
    """The services until the block ends."""
    recorder = Recorder()
    async with running_membership(directory, membership_settings(directory)) as membership:
        identity = IssuedIdentity("credentials", membership.identity.hierarchies)
        place = directory / "vault"
        place.mkdir()
        async with running_vault(vault_settings(place), place, identity=identity) as vault:
            ann = (await membership.client()).context
            context = Context(
                TRUST_DOMAIN,
                {**ann.endpoints, "credentials": [vault.address]},
                ann.bundle,
                ann.estate_bundle,
                ann.certificate,
                ann.key,
            )
            async with RecordingClient(context, recorder) as client:
                yield LegacyStage(membership, client, recorder)
