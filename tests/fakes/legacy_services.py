"""The services behind the legacy commands, in memory, one handler for each RPC; the SDK's clients call it."""

import fnmatch
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from types import SimpleNamespace
from typing import Any

from google.protobuf.message import Message

from fakes.legacy_arrays import LegacyArrays
from fakes.legacy_files import LegacyFiles
from fakes.legacy_settings import LegacySettingsAndObjects
from keyreeve import errors
from keyreeve._async.services import CredentialsClient, MembershipClient
from keyreeve.credentials.v1 import entry_service_pb2 as entry_pb
from keyreeve.errors import EntryExists
from keyreeve.membership.v1 import member_service_pb2 as member_pb
from keyreeve.operations.v1 import operation_service_pb2 as operation_pb
from support.transcripts import Recorder
from support.uploaded_files import uploaded

NOW = datetime(2031, 5, 4, 12, 0, tzinfo=UTC)


@dataclass
class FakeCaller:
    """Calls handlers in place of a service."""

    services: "LegacyServices"

    async def unary(self, method: str, request: Message, response: Any, _timeout: float | None = None) -> Any:
        self.services.recorder.rpc(method, request)
        return self.services.handler(method)(request)

    async def upload(self, method: str, requests: Any, response: Any, _timeout: float | None = None) -> Any:
        self.services.recorder.rpc(method, requests[0])
        return self.services.handler(method)(requests)

    async def download(self, method: str, request: Message, response: Any, _timeout: float | None = None) -> Any:
        self.services.recorder.rpc(method, request)
        return self.services.handler(method)(request)

    async def follow(self, method: str, request: Message, response: Any) -> AsyncIterator[Any]:
        self.services.recorder.rpc(method, request)
        for message in self.services.handler(method)(request):
            yield message


@dataclass
class LegacyServices:
    """Membership and the vault."""

    recorder: Recorder
    arrays: LegacyArrays = field(default_factory=LegacyArrays)
    entries: dict[tuple[str, str, str], entry_pb.Entry] = field(default_factory=dict)
    secrets: dict[str, bytes] = field(default_factory=dict)

    files: LegacyFiles = field(default_factory=LegacyFiles)
    settings: LegacySettingsAndObjects = field(default_factory=LegacySettingsAndObjects)

    refusals: dict[str, errors.KeyreeveError] = field(default_factory=dict)
    """What the next call of an RPC raises, by the name of its method."""

    def handler(self, method: str) -> Any:
        """What answers an RPC."""
        name = method.rpartition("/")[2]
        if (refusal := self.refusals.pop(name, None)) is not None:
            return partial(_refuse, refusal)
        return next(getattr(one, name) for one in (self, self.files, self.arrays, self.settings) if hasattr(one, name))

    def clients(self) -> Any:
        """What a verb calls."""
        caller: Any = FakeCaller(self)
        channel: Any = None
        return SimpleNamespace(
            membership=MembershipClient(channel, caller), credentials=CredentialsClient(channel, caller)
        )

    def state(self) -> tuple[Any, ...]:
        """All that RPCs can change."""
        return (self.arrays, self.entries, self.secrets, self.files, self.settings)

    async def give(self, text: str) -> None:
        """Make true what a line of a transcript says."""
        match text.split():
            case ["array", name, *servers]:
                self.arrays.make(name.removesuffix(":"), servers)
                for server in servers:
                    self._report(server, [])
            case ["used", server, service, *names]:
                parent = f"{self.arrays.members[f'members/{server}'].array}/servers/{server}"
                self.files.used.setdefault(parent, {}).update(dict.fromkeys(names, service))
            case ["upload", server, name, kind]:
                parent = f"{self.arrays.members[f'members/{server}'].array}/servers/{server}"
                self.files.spaces.setdefault(parent, {})[name] = uploaded(kind)
            case ["report", server, *facts]:
                self._report(server, facts)
            case _:
                self._give_trouble(text)

    def _give_trouble(self, text: str) -> None:
        match text.split():
            case ["unsecured", array]:
                self.arrays.arrays[f"arrays/{array}"].peer_security = False
            case ["changing", array]:
                self.arrays.arrays[f"arrays/{array}"].change = f"operations/{99:032x}"
            case ["unreported", server]:
                self.arrays.members[f"members/{server}"].ClearField("report")
            case ["quarantined", server]:
                self.arrays.members[f"members/{server}"].state = member_pb.MEMBER_STATE_QUARANTINED
            case ["refusal", method, reason, *words]:
                self.refusals[method] = errors.from_reason(reason, " ".join(words))
            case ["waiting", resource, *words]:
                self.arrays.following.waiting.add(resource=f"members/{resource}", reason=" ".join(words))
            case ["failing", reason, *words]:
                self.arrays.following.state = operation_pb.OPERATION_STATE_FAILED
                self.arrays.following.error_reason, self.arrays.following.error_message = reason, " ".join(words)
            case ["canceling", *_]:
                self.arrays.following.state = operation_pb.OPERATION_STATE_CANCELLED
            case _:
                raise ValueError(text)

    def _report(self, server: str, facts: list[str]) -> None:
        """`stopped`, `running=N`, `suspended=N`, `clock=MS`, `silent=SECONDS`, `sees=PRIMARY,SERVER...`, `cannot-reach=SERVER`."""
        member = self.arrays.members[f"members/{server}"]
        said = dict(fact.partition("=")[::2] for fact in facts)
        status = member_pb.Status(boot_id="boot", release="5.40.908", stopped="stopped" in said)
        if "running" in said:
            status.sessions.running, status.sessions.suspended = int(said["running"]), int(said["suspended"])
        report = member_pb.Report(status=status, clock_difference_ms=int(said.get("clock", "0")))
        report.receive_time.FromDatetime(NOW - timedelta(seconds=int(said.get("silent", "5"))))
        report.status.time.FromDatetime(NOW)
        report.status.certificate_expire_time.FromDatetime(NOW + timedelta(days=30))
        if "sees" in said:
            names = [f"members/{one}" for one in said["sees"].split(",")]
            report.status.view.array, report.status.view.primary = member.array, names[0]
            report.status.view.members.extend(names)
            report.disagreements.append("members")
        if "cannot-reach" in said:
            report.status.peers.add(member=f"members/{said['cannot-reach']}", problem="connection refused")
        member.report.CopyFrom(report)

    # --- The vault --------------------------------------------------------------------------------------------------

    def CreateEntry(self, request: entry_pb.CreateEntryRequest) -> entry_pb.Entry:  # noqa: N802
        owner, resource = _full(request.entry.owner), _full(request.entry.resource)
        key = (request.parent, owner.casefold(), resource.casefold())
        if key in self.entries:
            array = request.parent.removeprefix("arrays/")
            raise EntryExists(f"{array} has an entry of {owner} for {resource or 'the login'}")
        entry = entry_pb.Entry()
        entry.CopyFrom(request.entry)
        number = hashlib.sha256("\0".join(key).encode()).hexdigest()[:32]
        entry.name, entry.owner, entry.resource = f"{request.parent}/entries/{number}", owner, resource
        entry.kind, entry.source, entry.version = entry_pb.ENTRY_KIND_PASSWORD, entry_pb.ENTRY_SOURCE_CALL, 1
        self.entries[key] = entry
        self.secrets[entry.name] = request.secret
        return entry

    def ListEntries(self, request: entry_pb.ListEntriesRequest) -> entry_pb.ListEntriesResponse:  # noqa: N802
        wanted = (_full(request.owner), _full(request.resource), request.user_name)
        found = [
            entry
            for (parent, owner, resource), entry in sorted(self.entries.items())
            if parent == request.parent
            and (not request.login_only or not resource)
            and all(
                not pattern or fnmatch.fnmatchcase(value.casefold(), pattern.casefold())
                for value, pattern in zip((owner, resource, entry.user_name), wanted, strict=True)
            )
        ]
        return entry_pb.ListEntriesResponse(entries=found)

    def UpdateEntry(self, request: entry_pb.UpdateEntryRequest) -> entry_pb.Entry:  # noqa: N802
        [entry] = [one for one in self.entries.values() if one.name == request.entry.name]
        entry.user_name = request.entry.user_name
        entry.version += 1
        self.secrets[entry.name] = request.secret
        return entry

    def DeleteEntries(self, request: entry_pb.DeleteEntriesRequest) -> entry_pb.DeleteEntriesResponse:  # noqa: N802
        owner, resource = _full(request.owner).casefold(), _full(request.resource).casefold()
        keys = [
            key
            for key in self.entries
            if key[0] == request.parent and owner in {"", key[1]} and resource in {"", key[2]}
        ]
        return entry_pb.DeleteEntriesResponse(names=[self.entries.pop(key).name for key in keys])


def _full(name: str) -> str:
    """A name with its beginning."""
    return name if not name or name in {"anonymous", "ldap"} or name.startswith(("...", "*")) else f".../_ens/{name}"


def _refuse(refusal: errors.KeyreeveError, _request: object) -> None:
    raise refusal
