"""The port to members' peer ports."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class PeerAnswer:
    """How a peer port answered a ping."""

    problem: str
    """Why it counts as no answer; empty: it was answered."""
    boot_id: str = ""
    """The start of the agent that answered."""

    def of_boot(self, boot_id: str) -> "PeerAnswer":
        """This answer, which counts for no other start of the agent than that which has reported."""
        if self.problem or self.boot_id == boot_id:
            return self
        return PeerAnswer("another start of the agent answers than the one that has reported", self.boot_id)


class PeerChecks(Protocol):
    """Pings the peer ports of members."""

    async def check(self, member: str, address: str, *, authority_id: str, trusted_der: Sequence[bytes]) -> PeerAnswer:
        """Dial a peer port with a certificate for checks from one authority, and wait for its answer.

        `trusted_der` are the certificates of the array's bundle, which the port's certificate has to lead to. A finished
        handshake proves nothing: in TLS 1.3 the client learns of its refusal at the first read. Raises `keyreeve.errors` when
        the certificate cannot be had; a peer that does not answer is a `problem`.
        """
        ...
