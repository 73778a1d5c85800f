"""Other CAs' own servers, run beside this one in the same session: the same requests, keys, durability and mutual TLS."""

from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from keyreeve_bench.baselines.peer import IN_FLIGHT, Peer

__all__ = ["IN_FLIGHT", "Peer", "start"]


async def start(name: str, directory: Path, csrs: Sequence[bytes], stack: AsyncExitStack) -> Peer:
    """Start a peer that ends with the stack. Raises `keyreeve.errors.StartFailed` when it cannot be run here."""
    place = directory / name
    place.mkdir()
    if name == "cfssl":
        from keyreeve_bench.baselines import cfssl

        return await cfssl.start(place, csrs, stack)
    from keyreeve_bench.baselines import step_ca

    return await step_ca.start(place, csrs, stack)
