"""`control.ports.ControlPlane` over the SDK."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from keyreeve import aio
from keyreeve.errors import NotFound
from keyreeve.membership_values import Epoch, Instruction, Member, PeerCertificate, Server, Status
from keyreeve_agent.material.values import RollMember

_MOST_SHARDS = 64


@dataclass(frozen=True)
class SdkControlPlane:
    """The calls of one member."""

    client: aio.Client
    server: Server

    async def create_array(self) -> None:
        """Enter this server into the roll."""
        await self.client.membership.arrays.create(self.server)

    async def report(self, status: Status) -> Instruction:
        """Report; the answer says what to do."""
        return await self.client.membership.members.report(self.server.name, status)

    async def epochs(self, array: str, from_epoch: int) -> list[Epoch]:
        """The epochs of an array from a number on."""
        return [one async for one in self.client.membership.bundles.epochs(array, from_epoch=from_epoch)]

    async def newest_epoch(self, array: str) -> Epoch:
        """The newest epoch of an array."""
        return await self.client.membership.bundles.get(array)

    async def acknowledge(self, array: str, boot_id: str, epoch: int, digest: bytes) -> None:
        """Say that an epoch has been loaded."""
        await self.client.membership.rotations.acknowledge(
            self.server.name, array=array, boot_id=boot_id, epoch=epoch, digest=digest
        )

    async def issue(self, csr: bytes) -> PeerCertificate:
        """A peer certificate for a new key."""
        return await self.client.membership.members.issue_peer_certificate(self.server.name, csr)

    async def crls(self, authority: str) -> tuple[bytes, ...]:
        """The CRLs of an authority, from the CA service itself."""
        found: list[bytes] = []
        for shard in range(_MOST_SHARDS):
            try:
                found.append((await self.client.certificates.revocation_list(authority, shard)).crl_der)
            except NotFound:
                break
        return tuple(found)

    async def follow_roll(self, array: str) -> AsyncIterator[dict[str, RollMember]]:
        """The members of an array, as they change."""
        roll: dict[str, RollMember] = {}
        complete = False
        async for update in self.client.membership.members.watch(array=array):
            roll.update((one.name, one) for one in map(roll_member, update.members))
            complete = complete or update.complete
            if complete:
                yield dict(roll)

    async def follow_epochs(self, array: str) -> AsyncIterator[Epoch]:
        """The newest epoch, as it changes."""
        async for epoch in self.client.membership.bundles.watch(array):
            yield epoch


def roll_member(member: Member) -> RollMember:
    """What the agent keeps of a member."""
    return RollMember(
        member.name.partition("/")[2],
        member.member_uid,
        member.array,
        member.joining_array,
        member.state,
        member.primary,
        member.address,
    )
