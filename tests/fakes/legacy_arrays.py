"""Structural changes of arrays in memory: each ends at once."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

from cryptography.hazmat.primitives.serialization import Encoding

from keyreeve import errors
from keyreeve.membership.v1 import array_service_pb2 as array_pb
from keyreeve.membership.v1 import bundle_service_pb2 as bundle_pb
from keyreeve.membership.v1 import member_service_pb2 as member_pb
from keyreeve.membership.v1 import setting_service_pb2 as setting_pb
from keyreeve.operations.v1 import operation_service_pb2 as operation_pb
from support.peer_certificates import TestCa

PEER_SECURITY = "tarantella-config-security-peerssl-enabled"
SECONDARY = {member_pb.MEMBER_STATE_MEMBER, member_pb.MEMBER_STATE_QUARANTINED}


@dataclass
class LegacyArrays:
    """Handlers of ArrayService, MemberService, BundleService and SettingService."""

    arrays: dict[str, array_pb.Array] = field(default_factory=dict)
    members: dict[str, member_pb.Member] = field(default_factory=dict)
    bundles: dict[str, bytes] = field(default_factory=dict)
    """The CA certificate of each array."""
    operations: dict[str, operation_pb.Operation] = field(default_factory=dict)
    following: operation_pb.Operation = field(default_factory=operation_pb.Operation)
    """What the next operation waits for first, and how it ends."""

    def make(self, name: str, servers: list[str]) -> array_pb.Array:
        """Make an array with its CA."""
        array = array_pb.Array(
            name=f"arrays/{name}",
            state=array_pb.ARRAY_STATE_ACTIVE,
            primary=f"members/{servers[0]}",
            epoch=1,
            peer_security=True,
            backup_primaries=[f"members/{one}" for one in servers[1:]],
        )
        self.arrays[array.name] = array
        self._renew_ca(array)
        for server in servers:
            known = self.members.setdefault(f"members/{server}", member_pb.Member(name=f"members/{server}"))
            known.address, known.release = "127.0.0.1:5427", "5.40.908"
            known.array = array.name
            del known.external_names[:]
            known.external_names.append(f"www.{server}")
        self._count(array)
        return array

    def _renew_ca(self, array: array_pb.Array) -> None:
        der = TestCa.root(f"{array.primary} {len(self.operations)}").certificate.public_bytes(Encoding.DER)
        self.bundles[array.name] = der
        array.authority, array.authority_sha256 = f"authorities/{array.name[7:]}", hashlib.sha256(der).digest()

    def _count(self, array: array_pb.Array) -> None:
        inside = [one for one in self.members.values() if one.array == array.name]
        array.member_count = len(inside)
        for one in inside:
            one.primary = one.name == array.primary
            one.state = member_pb.MEMBER_STATE_STANDALONE if len(inside) == 1 else member_pb.MEMBER_STATE_MEMBER

    # --- Reading ----------------------------------------------------------------------------------------------------

    def GetArray(self, request: array_pb.GetArrayRequest) -> array_pb.Array:  # noqa: N802
        if request.name not in self.arrays:
            raise errors.ArrayNotFound(f"there is no array {_short(request.name)!a}")
        return self.arrays[request.name]

    def GetMember(self, request: member_pb.GetMemberRequest) -> member_pb.Member:  # noqa: N802
        return self._member(request.name)

    def ListMembers(self, request: member_pb.ListMembersRequest) -> member_pb.ListMembersResponse:  # noqa: N802
        found = [one for _, one in sorted(self.members.items()) if request.array in {"", one.array}]
        return member_pb.ListMembersResponse(members=found)

    def GetBundle(self, request: bundle_pb.GetBundleRequest) -> bundle_pb.Epoch:  # noqa: N802
        array = self.arrays[request.array]
        authority = bundle_pb.BundleAuthority(
            name=array.authority, certificate_der=self.bundles[array.name], use=bundle_pb.AUTHORITY_USE_ISSUE
        )
        return bundle_pb.Epoch(array=array.name, epoch=array.epoch, authorities=[authority])

    def WatchOperation(self, request: operation_pb.WatchOperationRequest) -> Iterator[operation_pb.Operation]:  # noqa: N802
        done, following = self.operations[request.name], self.following
        self.following = operation_pb.Operation()
        if following.waiting:
            yield operation_pb.Operation(
                name=done.name, state=operation_pb.OPERATION_STATE_RUNNING, waiting=following.waiting
            )
        following.ClearField("waiting")
        ended = operation_pb.Operation()
        ended.CopyFrom(done)
        ended.MergeFrom(following)
        yield ended

    # --- Changes ----------------------------------------------------------------------------------------------------

    def JoinArray(self, request: array_pb.JoinArrayRequest) -> operation_pb.Operation:  # noqa: N802
        primary, secondary = self._member(request.primary), self._member(request.secondary)
        target, own = self.arrays[primary.array], self.arrays[secondary.array]
        if not primary.primary:
            raise errors.NotPrimary(f"{_short(primary.name)} is not the primary of {_short(target.name)}")
        if own.member_count > 1:
            raise errors.NotStandalone(f"{_short(secondary.name)} is member in {_short(own.name)}")
        if target.peer_security is not own.peer_security:
            said = (
                f"peer security is {_on(target)} at {_short(primary.name)} and {_on(own)} at {_short(secondary.name)}"
            )
            raise errors.PeerSecurityMismatch(said)
        if target.peer_security and request.accepted_sha256 not in {target.authority_sha256, own.authority_sha256}:
            raise errors.FingerprintMismatch("the accepted fingerprint is that of neither CA")
        own.state, own.member_count = array_pb.ARRAY_STATE_DISSOLVED, 0
        secondary.array = target.name
        target.backup_primaries.append(secondary.name)
        self._count(target)
        return self._done()

    def DetachMember(self, request: array_pb.DetachMemberRequest) -> operation_pb.Operation:  # noqa: N802
        member = self._member(request.member)
        array = self.arrays[member.array]
        if member.primary:
            raise errors.PrimaryCannotDetach(f"{_short(member.name)} is the primary of {_short(array.name)}")
        return self._leave(member, array)

    def CleanMember(self, request: array_pb.CleanMemberRequest) -> operation_pb.Operation:  # noqa: N802
        member = self._member(request.member)
        array = self.arrays[member.array]
        if member.primary:
            raise errors.PrimaryCannotDetach(f"{_short(member.name)} is the primary of {_short(array.name)}")
        if request.mode == array_pb.CLEAN_MODE_ONLY_IF_DISAGREEING and not member.report.disagreements:
            raise errors.ViewsAgree(f"all members of {_short(array.name)} see it as the roll does")
        return self._leave(member, array)

    def PromotePrimary(self, request: array_pb.PromotePrimaryRequest) -> operation_pb.Operation:  # noqa: N802
        member = self._member(request.member)
        array = self.arrays[member.array]
        if member.primary:
            raise errors.NotSecondary(f"{_short(member.name)} is the primary of {_short(array.name)}")
        array.primary = member.name
        self._renew_ca(array)
        self._count(array)
        return self._done()

    def _leave(self, member: member_pb.Member, array: array_pb.Array) -> operation_pb.Operation:
        if member.name in array.backup_primaries:
            array.backup_primaries.remove(member.name)
        alone = f"{_short(member.name).partition('.')[0]}-{len(self.operations)}{'0' * 8}"
        self.make(alone, [_short(member.name)]).peer_security = array.peer_security
        self._count(array)
        return self._done()

    def _done(self) -> operation_pb.Operation:
        now = datetime(2031, 5, 4, tzinfo=UTC)
        made = operation_pb.Operation(
            name=f"operations/{len(self.operations):032x}", state=operation_pb.OPERATION_STATE_SUCCEEDED
        )
        for stamp in (made.create_time, made.update_time, made.end_time):
            stamp.FromDatetime(now)
        self.operations[made.name] = made
        return made

    # --- Settings ---------------------------------------------------------------------------------------------------

    def GetSettings(self, request: setting_pb.GetSettingsRequest) -> setting_pb.Settings:  # noqa: N802
        value = "1" if self.arrays[self._member(request.member).array].peer_security else "0"
        setting = setting_pb.Setting(name=PEER_SECURITY, value=value, scope=setting_pb.SETTING_SCOPE_SERVER)
        return setting_pb.Settings(member=request.member, settings=[setting])

    def UpdateSettings(self, request: setting_pb.UpdateSettingsRequest) -> setting_pb.UpdateSettingsResponse:  # noqa: N802
        [value] = [setting.value == "1" for setting in request.settings]
        members = [self._member(name) for name in request.members]
        changed = [one for one in members if self.arrays[one.array].peer_security is not value]
        for member in changed:
            if member.state != member_pb.MEMBER_STATE_STANDALONE:
                raise errors.NotStandalone(f"{_short(member.name)} is member in {_short(member.array)}")
            if not member.report.status.stopped:
                raise errors.ServerRunning(f"the programs of {_short(member.name)} are not reported as stopped")
        for member in changed:
            self.arrays[member.array].peer_security = value
        settings = [self.GetSettings(setting_pb.GetSettingsRequest(member=one)) for one in request.members]
        return setting_pb.UpdateSettingsResponse(settings=settings)

    # --- Backup primaries -------------------------------------------------------------------------------------------

    def ListBackupPrimaries(self, request: member_pb.ListBackupPrimariesRequest) -> member_pb.BackupPrimaries:  # noqa: N802
        return member_pb.BackupPrimaries(members=self.arrays[request.array].backup_primaries)

    def AddBackupPrimary(self, request: member_pb.AddBackupPrimaryRequest) -> member_pb.BackupPrimaries:  # noqa: N802
        member = self._member(request.member)
        backups = self.arrays[member.array].backup_primaries
        if member.primary or member.state not in SECONDARY:
            state = "standalone" if member.state == member_pb.MEMBER_STATE_STANDALONE else "member"
            raise errors.NotSecondary(f"{_short(member.name)} is no secondary ({state})")
        if member.name in backups:
            raise errors.BackupPrimaryExists(f"{_short(member.name)} is a backup primary")
        backups.insert(request.position - 1 if request.position else len(backups), member.name)
        return member_pb.BackupPrimaries(members=backups)

    def MoveBackupPrimary(self, request: member_pb.MoveBackupPrimaryRequest) -> member_pb.BackupPrimaries:  # noqa: N802
        backups = self._without(self._member(request.member))
        backups.insert(request.position - 1, request.member)
        return member_pb.BackupPrimaries(members=backups)

    def RemoveBackupPrimary(self, request: member_pb.RemoveBackupPrimaryRequest) -> member_pb.BackupPrimaries:  # noqa: N802
        backups = self.arrays[request.array].backup_primaries
        if request.member:
            self._without(self._member(request.member))
        else:
            del backups[:]
        return member_pb.BackupPrimaries(members=backups)

    def _without(self, member: member_pb.Member) -> "list[str]":
        backups: list[str] = self.arrays[member.array].backup_primaries  # type: ignore[assignment]
        if member.name not in backups:
            raise errors.BackupPrimaryNotFound(f"{_short(member.name)} is no backup primary")
        backups.remove(member.name)
        return backups

    def _member(self, name: str) -> member_pb.Member:
        if name not in self.members:
            raise errors.MemberNotFound(f"{_short(name)!a} is not in the roll", metadata={"member": _short(name)})
        return self.members[name]


def _on(array: array_pb.Array) -> str:
    return "on" if array.peer_security else "off"


def _short(name: str) -> str:
    return name.rpartition("/")[2]
