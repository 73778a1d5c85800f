"""What `up` does in a state directory that was moved or copied, or that another control plane has."""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from keyreeve.cli.supervision.local_services import Service, ca_of, read_addresses, read_config
from keyreeve.cli.supervision.state_directory import StateDirectory, read_file, write_file
from keyreeve.errors import StartFailed
from keyreeve.files import PRIVATE

_LINE = re.compile(r"^state_directory:.*$", re.MULTILINE)


def follow_moved_directory(
    state_directory: StateDirectory, services: Sequence[Service], report: Callable[[str], None]
) -> None:
    """Let the settings name the state that lies in this directory.

    They have the place where `up` wrote them. A service whose state lies here is run with it; a copy never writes into its
    original. Raises `StartFailed` when the state that they name is gone, and none lies here: nothing is made anew where a
    control plane has been.
    """
    for service in services:
        path = state_directory.config(service.name)
        if not path.exists():
            continue
        here = state_directory.state(service.name)
        named = Path(str(read_config(path).get("state_directory", here)))
        if _same(named, here):
            continue
        if here.is_dir() and any(here.iterdir()):
            _name_state(path, here)
            report(f"{service.name}: this directory was at {named.parent}; its settings now name {here}")
        elif not named.exists() and state_directory.context.exists():
            raise StartFailed(
                f"state_directory in {path} is {named}, which does not exist, and {here} holds no control plane either: "
                "restore one of them, or correct the setting"
            )
    _refuse_lost_state(state_directory, services)
    _follow_context(state_directory)


def _refuse_lost_state(state_directory: StateDirectory, services: Sequence[Service]) -> None:
    """Raise `StartFailed` when a service that has served here has lost its state, from which it would make a new one."""
    from keyreeve.context import Context
    from keyreeve.errors import ContextInvalid

    try:
        served = Context.load(state_directory.context).endpoints if state_directory.context.exists() else {}
    except ContextInvalid:
        served = {}
    for service in services:
        path = state_directory.config(service.name)
        if service.name not in served or not service.has_database or not path.exists():
            continue
        state = Path(str(read_config(path).get("state_directory", state_directory.state(service.name))))
        if not state.is_dir() or not any(state.iterdir()):
            raise StartFailed(
                f"{state} is empty or gone, but {state_directory.context} names the {service.name} service that has been "
                f"there, and nothing is made anew in its place: restore {state} from a backup, or delete the whole control "
                "plane with `keyreeve reset`"
            )


def _name_state(config: Path, state: Path) -> None:
    line = f"state_directory: {json.dumps(str(state))}"
    write_file(config, _LINE.sub(lambda _: line, read_file(config).decode()).encode(), mode=PRIVATE)


def _follow_context(state_directory: StateDirectory) -> None:
    """Let the context file of a moved directory name the files that lie beside it."""
    from dataclasses import replace

    from keyreeve.context import Context
    from keyreeve.errors import ContextInvalid

    if not state_directory.context.exists():
        return
    try:
        known = Context.load(state_directory.context)
    except ContextInvalid:
        return
    here = replace(
        known,
        bundle=state_directory.bundle,
        estate_bundle=state_directory.estate_bundle,
        certificate=state_directory.certificate,
        key=state_directory.key,
    )
    if here != known:
        here.save(state_directory.context)


def _same(one: Path, other: Path) -> bool:
    return one == other or (one.exists() and other.exists() and one.samefile(other))


def refuse_other_trust_domain(
    state_directory: StateDirectory, services: Sequence[Service], trust_domain: str | None
) -> None:
    """Raise `StartFailed` when a trust domain is requested that the control plane here does not have."""
    ca = ca_of(services)
    if trust_domain is None or not state_directory.config(ca.name).exists():
        return
    known = read_addresses(state_directory, ca).trust_domain
    if known != trust_domain:
        raise StartFailed(
            f"the control plane in {state_directory.root} has the trust domain {known}, which cannot be changed to "
            f"{trust_domain}: use another directory, --dir DIRECTORY"
        )
