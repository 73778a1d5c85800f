"""What `keyreeve-agent status` prints."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from keyreeve_agent.peers.servicer import HEARD_SECONDS
from keyreeve_agent.peers.view import ArrayView


def status_of(view: ArrayView, now: float) -> dict[str, Any]:
    """The view as plain values."""
    loaded = view.loaded
    return {
        "time": now,
        "member": view.name,
        "array": view.array,
        "primary": view.primary,
        "members": [
            {"name": one.name, "state": one.state.value, "primary": one.primary, "address": one.address}
            for one in view.members
        ],
        "epoch": 0 if loaded is None else loaded.material.epoch.epoch,
        "digest": "" if loaded is None else loaded.material.epoch.digest.hex(),
        "authority": "" if loaded is None else loaded.material.authority,
        "certificate": "" if loaded is None else f"{loaded.certificate.serial_number:032x}",
        "not_after": 0 if loaded is None else loaded.certificate.not_valid_after_utc.timestamp(),
        "boot_id": view.boot_id,
        "heard": max(0, view.heard_at),
        "peers": {
            name: {"reachable": one.reachable, "problem": one.problem, "epoch": one.epoch}
            for name, one in sorted(view.reached.items())
        },
        "problems": dict(view.problems),
    }


def status_lines(status: Mapping[str, Any], now: float, *, running: bool) -> Iterator[str]:
    """The same for a person."""
    yield f"member         {status['member']}"
    yield f"agent          {'running' if running else 'stopped'}, status of {_age(now - status['time'])} ago"
    if not status["array"]:
        yield "array          none yet"
    else:
        yield f"array          {status['array']}, epoch {status['epoch']} ({status['digest'][:16]})"
        yield f"primary        {status['primary'] or 'unknown'}"
        ends = datetime.fromtimestamp(status["not_after"], UTC)
        yield f"certificate    {status['certificate']} of {status['authority']}, until {ends:%Y-%m-%d %H:%M:%S}Z"
    silent = now - status["heard"]
    heard = f"answered {_age(silent)} ago" if status["heard"] else "has not answered yet"
    yield f"control plane  {heard}{'' if silent < HEARD_SECONDS else ': what is loaded stays in use until it expires'}"
    for one in status["members"]:
        peer = status["peers"].get(one["name"])
        reach = "this server" if one["name"] == status["member"] else "not dialed yet"
        if peer is not None:
            reach = f"reachable, epoch {peer['epoch']}" if peer["reachable"] else f"unreachable: {peer['problem']}"
        yield f"  {one['name']}  {one['state']}{', primary' if one['primary'] else ''}  {one['address']}  {reach}"
    for subject, problem in status["problems"].items():
        yield f"problem        {subject}: {problem}"


def _age(seconds: float) -> str:
    return f"{max(0.0, seconds):.0f} s"
