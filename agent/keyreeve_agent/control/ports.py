"""The control plane as the agent's loop sees it."""

from collections.abc import AsyncIterator
from typing import Protocol

from keyreeve.membership_values import Epoch, Instruction, PeerCertificate, Status
from keyreeve_agent.material.values import RollMember


class ControlPlane(Protocol):
    """Calls about this member, with its control certificate. Every method raises `keyreeve.errors`."""

    async def create_array(self) -> None:
        """Enter this server into the roll: an array of one."""
        ...

    async def report(self, status: Status) -> Instruction: ...

    async def epochs(self, array: str, from_epoch: int) -> list[Epoch]:
        """The epochs of an array from a number on, in order."""
        ...

    async def newest_epoch(self, array: str) -> Epoch: ...

    async def acknowledge(self, array: str, boot_id: str, epoch: int, digest: bytes) -> None: ...

    async def issue(self, csr: bytes) -> PeerCertificate:
        """A peer certificate for a new key."""
        ...

    async def crls(self, authority: str) -> tuple[bytes, ...]:
        """The CRLs of an authority, DER."""
        ...

    def follow_roll(self, array: str) -> AsyncIterator[dict[str, RollMember]]:
        """The members of an array, and those that join or have left it, by peer DNS name: now and after each change."""
        ...

    def follow_epochs(self, array: str) -> AsyncIterator[Epoch]:
        """The newest epoch of an array: now and after each change."""
        ...
