"""Commands of the local admin socket: first operator, recovery, service tokens.

The start of a control plane waits for the first: it imports no more than it needs.
"""

from pathlib import Path
from typing import Any

from keyreeve_chassis.local_admin.client import ask


async def first_operator(socket: Path, name: str, csr: bytes) -> Any:  # noqa: ANN401 - plain values
    """Ask the running service for an admin certificate. Raises `StoreUnavailable` when it does not answer."""
    return await ask(socket, "first_operator", {"name": name, "csr": csr})


async def recover(socket: Path, operator: str | None = None, address: str = "") -> Any:  # noqa: ANN401
    """Have the running service replace what has expired, and make a token for an admin of the name `operator`.

    Raises `StoreUnavailable` when it does not answer.
    """
    return await ask(socket, "recover", {"operator": operator, "address": address})


async def service_token(socket: Path, service: str, instance: str, address: str = "") -> Any:  # noqa: ANN401
    """Have the running service make an enrollment token for an instance of another service.

    `address` is the enrollment listener's `host:port` as that instance reaches it; empty: as the settings say. Raises
    `StoreUnavailable` when the service does not answer, `NameRefused`, `TokenNotAllowed` for the CA itself.
    """
    return await ask(socket, "service_token", {"service": service, "instance": instance, "address": address})


async def resume_issuance(socket: Path, reason: str) -> Any:  # noqa: ANN401 - plain values
    """Have the running service resume halted issuance without a second person.

    Raises `StoreUnavailable` when it does not answer, `IssuanceNotHalted`.
    """
    return await ask(socket, "resume_issuance", {"reason": reason})
