"""Baselines: servers of other CAs, measured in the same session with the same requests, keys and durability."""

from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from keyreeve_bench.baselines.baseline import IN_FLIGHT, Baseline

__all__ = ["IN_FLIGHT", "Baseline", "start"]


async def start(name: str, directory: Path, csrs: Sequence[bytes], stack: AsyncExitStack) -> Baseline:
    """Start a baseline that the stack stops. Raises `keyreeve.errors.StartFailed` when it cannot run here."""
    place = directory / name
    place.mkdir()
    if name == "cfssl":
        from keyreeve_bench.baselines import cfssl

        return await cfssl.start(place, csrs, stack)
    from keyreeve_bench.baselines import step_ca

    return await step_ca.start(place, csrs, stack)
