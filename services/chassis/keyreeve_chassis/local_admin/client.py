"""The operator's side of the local admin socket."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from keyreeve.errors import StoreUnavailable
from keyreeve_chassis.local_admin.findings import Finding
from keyreeve_chassis.processes.ipc import Client

LOCAL_SECONDS = 20.0
RECOVER_TRUST_TABLES = "trust_tables"
"""Name of the command on the socket."""


async def ask(socket: Path, name: str, payload: object) -> Any:  # noqa: ANN401 - plain values
    """Call the running service. Raises `StoreUnavailable` when it does not answer, and what it refuses with."""
    client = Client(socket)
    try:
        return await client.call(name, payload, LOCAL_SECONDS)
    finally:
        await client.close()


async def check_instance(socket: Path, look: Callable[[], Sequence[Finding]]) -> list[dict[str, Any]]:
    """Have the running service examine its installation, or examine it here when none answers.

    The service may have been started with other settings than there are here, such as a variable that is not set now.
    """
    try:
        answer: list[dict[str, Any]] = await ask(socket, "check", None)
    except StoreUnavailable:
        return [finding.as_dict() for finding in await asyncio.to_thread(look)]
    return answer


async def recover_trust_tables(socket: Path, *, seal: bool) -> Any:  # noqa: ANN401 - plain values
    """Have the running service show what is altered in its trust tables, or seal them as they are.

    Raises `StoreUnavailable` when it does not answer.
    """
    return await ask(socket, RECOVER_TRUST_TABLES, {"seal": seal})
