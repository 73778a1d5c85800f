"""Waiting for the end of a structural change."""

from typing import TYPE_CHECKING

from keyreeve_gateway.invocation import CommandFailed, Invocation
from keyreeve_gateway.text import last_part

if TYPE_CHECKING:
    from keyreeve.operation_values import Operation

WAITS = (
    "It ends when every server has the change, and prints nothing else; what is waited for is shown on standard error."
)
WHY_WAIT = "The manuals ask people to wait until `tarantella status` says the same everywhere before the next change."


async def wait_for(call: Invocation, begun: "Operation") -> None:
    """Wait until an operation of the membership service has ended. Raises `CommandFailed`."""
    from keyreeve.operation_values import OperationState

    shown: set[tuple[str, str]] = set()
    async for state in call.services.membership.operations.watch(begun.name):
        for one in state.waiting:
            if (one.resource, one.reason) not in shown:
                shown.add((one.resource, one.reason))
                call.console.warn(f"Waiting for {last_part(one.resource)}: {one.reason}")
        if state.state is OperationState.FAILED:
            raise CommandFailed(f"{state.error_message} [{state.error_reason}]")
        if state.state is OperationState.CANCELLED:
            raise CommandFailed(f"{last_part(begun.name)} was canceled, and has been undone")
