"""What a verb needs: services to call, and a console to talk to."""

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from keyreeve._async.services import CredentialsClient, MembershipClient
    from keyreeve.plaintext import Plaintext


class Services(Protocol):
    """The clients of the services that stand behind the legacy commands."""

    @property
    def membership(self) -> "MembershipClient":
        """Arrays of servers."""

    @property
    def credentials(self) -> "CredentialsClient":
        """The vault."""


class Console(Protocol):
    """Where a command's output goes, and where its answers come from.

    Every text is one line, in which only printable characters are left as they are.
    """

    @property
    def interactive(self) -> bool:
        """Whether a person can answer."""

    def say(self, line: str = "") -> None:
        """Write a line of output."""

    def warn(self, line: str) -> None:
        """Write a line on standard error."""

    async def ask(self, prompt: str) -> str | None:
        """Ask a person; None when there is none."""

    async def ask_secret(self, prompt: str) -> "Plaintext | None":
        """Read a secret, without an echo from a person; None when there is no more input."""

    async def read_file(self, name: str, limit: int) -> bytes:
        """Read a file of the caller, `-` for standard input, up to a number of bytes and one more.

        Raises `keyreeve.errors.FileUnusable`.
        """
