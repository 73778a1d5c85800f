"""Metrics that are read from the service's database: what running operations wait for, and that it answers."""

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

from keyreeve.errors import Unavailable
from keyreeve_chassis.database.ports import Store
from keyreeve_chassis.operations.ports import Operation
from keyreeve_chassis.telemetry.current_values import CurrentValues

PASS_SECONDS = 5.0
"""`keyreeve status` says so soon that the database is away; Prometheus scrapes every 15 to 60 s."""

RUNNING = CurrentValues(
    "keyreeve_operation_start_timestamp_seconds", "When a running operation was begun.", ("method", "operation")
)
WAITING = CurrentValues(
    "keyreeve_operation_waiting_since_timestamp_seconds",
    "Since when a running operation waits for a resource.",
    ("method", "operation", "resource"),
)
REACHABLE = CurrentValues("keyreeve_database_reachable", "1 when the database has answered the last look, else 0.")
LATENCY = CurrentValues("keyreeve_database_look_seconds", "How long the database took to answer the last look.")

log = logging.getLogger(__name__)


def running_values(operations: Sequence[Operation]) -> Mapping[tuple[str, ...], float]:
    """When each operation was begun."""
    return {(one.method, one.operation_id): one.created_at for one in operations}


def waiting_values(operations: Sequence[Operation]) -> Mapping[tuple[str, ...], float]:
    """Since when each operation waits for each resource; of several reasons the oldest."""
    since: dict[tuple[str, ...], float] = {}
    for operation in operations:
        for one in operation.waiting:
            key = (operation.method, operation.operation_id, one.resource)
            since[key] = min(one.since, since.get(key, one.since))
    return since


async def show_operations(store: Store[Any]) -> None:
    """Show the running operations, now and every few seconds, forever."""
    while True:
        began = time.monotonic()
        try:
            found = await store.read(lambda tx: tx.operations.running(), one_statement=True)
        except Unavailable as unavailable:
            log.debug("the operations could not be shown: %s", unavailable)
            REACHABLE.set(0)
        else:
            REACHABLE.set(1)
            LATENCY.set(time.monotonic() - began)
            RUNNING.replace(running_values(found))
            WAITING.replace(waiting_values(found))
        await asyncio.sleep(PASS_SECONDS)
