"""`keyreeve tour`: agents, a join, a promotion that replaces every certificate, passwords, a detach; it leaves nothing."""

import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keyreeve.cli.exit_codes import Exit
from keyreeve.cli.options import Output, Quiet
from keyreeve.cli.printing import Format, Printer

if TYPE_CHECKING:
    from keyreeve import Client
    from keyreeve.cli.tour.local_agents import LocalAgent
    from keyreeve.cli.tour.passwords import Passwords
    from keyreeve.context import Context
    from keyreeve.operation_values import Operation

TRUST_DOMAIN = "tour.localhost"
REFUSED_SECONDS = 5.0
"""A detached server must be refused by then."""
_FIRST_HOST = 11
_POLL_SECONDS = 0.05


def add_to(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("tour")(tour)


def tour(
    keep: Annotated[bool, typer.Option("--keep", help="Keep the directory with the logs.")] = False,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Show an array of servers at work: join, promotion, passwords, detach, with three local agents.

    It takes about half a minute, in a temporary directory, on free ports of 127.0.0.1 and 127.0.0.11 to 127.0.0.13.
    """
    from keyreeve.cli.local.starting import bring_up
    from keyreeve.cli.local.stopping import take_down
    from keyreeve.cli.supervision.local_services import SERVICES
    from keyreeve.cli.supervision.state_directory import StateDirectory

    printer = Printer(output, quiet=quiet)
    directory = Path(tempfile.mkdtemp(prefix="keyreeve-tour-"))
    services = [service for service in SERVICES if service.name in {"ca", "membership", "credentials"}]
    state_directory = StateDirectory.at(directory / "control-plane")
    guide = Guide(printer)
    agents: list[LocalAgent] = []
    try:
        guide.say("Start a control plane: a private CA, the roll of servers, and a vault for the passwords they use.")
        bring_up(state_directory, trust_domain=TRUST_DOMAIN, first_port=0, report=lambda _: None, services=services)
        found = _walk(guide, state_directory, directory, agents)
    finally:
        for agent in agents:
            agent.stop()
        take_down(state_directory, services)
        if not keep:
            shutil.rmtree(directory, ignore_errors=True)
    if keep:
        printer.line(f"logs are in {directory}")
    seconds = round(time.monotonic() - guide.began, 1)
    good = not found.failures and found.refused and found.vault_refused
    text = f"{found.calls} calls during the promotion, {len(found.failures)} failed; {seconds:g} s in all"
    document = {
        "calls": found.calls,
        "failures": found.failures,
        "refused": found.refused,
        "refused_after_seconds": found.refused_after,
        "vault_refused": found.vault_refused,
        "vault_refused_after_seconds": found.vault_refused_after,
        "seconds": seconds,
    }
    printer.answer(document, text, brief="ok" if good else "failed")
    if not good:
        raise typer.Exit(Exit.REFUSED)


class Guide:
    """Says each step in a line, with the time since the start."""

    def __init__(self, printer: Printer, clock: Callable[[], float] = time.monotonic) -> None:
        self._printer = printer
        self._clock = clock
        self.began = clock()

    def say(self, text: str) -> None:
        """Say what happens next."""
        self._printer.line(f"{self._clock() - self.began:5.1f} s  {text}")

    def note(self, text: str) -> None:
        """Say what is seen."""
        self._printer.line(f"         {text}")


@dataclass
class Findings:
    """What the tour has seen."""

    calls: int
    failures: list[str]
    refused: str
    """The reason for which the detached server was refused; empty: it was not."""
    refused_after: float
    vault_refused: str = ""
    """The reason for which the vault refused it; empty: it did not."""
    vault_refused_after: float = 0.0


def _walk(guide: Guide, state_directory: object, directory: Path, agents: "list[LocalAgent]") -> Findings:
    from keyreeve import Client
    from keyreeve.cli.supervision.state_directory import StateDirectory
    from keyreeve.cli.tour.local_agents import LocalAgent, free_address
    from keyreeve.cli.tour.passwords import Passwords
    from keyreeve.cli.tour.talking import Talk
    from keyreeve.context import Context

    assert isinstance(state_directory, StateDirectory)
    context = Context.load(state_directory.context)
    with Client(context) as client:
        guide.say("Enroll three servers with one-time tokens. Each makes its own keys, which never leave it.")
        for n in (1, 2, 3):
            agent = LocalAgent(
                f"web-{n}.{TRUST_DOMAIN}", free_address(f"127.0.0.{_FIRST_HOST - 1 + n}"), directory / f"web-{n}"
            )
            agent.configure({"membership": context.addresses("membership")})
            identity = f"spiffe://{TRUST_DOMAIN}/members/{agent.name}"
            agent.enroll(client.tokens.create(identity).text)
            agent.start()
            agents.append(agent)
        for agent in agents:
            agent.wait_for("it stands alone", lambda status: bool(status.get("array")))
        one, two, three = agents
        guide.note("each stands alone: the primary of an array of one, with a CA of its own")
        for agent in (two, three):
            array = client.membership.arrays.get(one.status["array"])
            guide.say(f"Join {agent.name} to the array of {one.name}; a person compares the fingerprint of its CA:")
            guide.note(array.authority_sha256.hex(":").upper()[:47] + "...")
            _await(
                guide,
                client,
                client.membership.arrays.join(one.name, agent.name, accepted_sha256=array.authority_sha256),
            )
        for agent in agents:
            agent.wait_for("it reaches both others", _reaches_two)
        guide.note("each has dialed both others: certificate, CA, name, revocation and roll are checked on every call")
        guide.say(f"Promote {two.name}: a new CA, trusted by all before it signs, then new certificates for all.")
        before = [agent.status["certificate"] for agent in agents]
        with Talk(three, [one, two]) as talk:
            _await(guide, client, client.membership.arrays.promote(two.name))
            for agent, old in zip(agents, before, strict=True):
                agent.wait_for("it has a new certificate", _other_than(old))
        guide.note(
            f"every certificate was replaced while a client talked: {talk.calls} calls, {len(talk.failures)} failed"
        )
        with Client(_context_of(three, context)) as member:
            passwords = Passwords(client, member, one.status["array"])
            _show_passwords(guide, passwords, three.name)
            guide.say(f"Detach {three.name}: its certificates are revoked, and the others refuse it.")
            found = _detach(guide, client, agents, Findings(talk.calls, talk.failures, "", 0.0))
            found.vault_refused, found.vault_refused_after = passwords.refused(REFUSED_SECONDS)
        if found.vault_refused:
            guide.note(f"the vault refuses it the password, too: {found.vault_refused}")
        else:
            guide.note(f"the vault still gives it the password after {REFUSED_SECONDS:g} s")
        return found


def _context_of(agent: "LocalAgent", control_plane: "Context") -> "Context":
    """What a server calls the services with: its control certificate."""
    from dataclasses import replace

    from keyreeve.context import Context
    from keyreeve.enrollee_files import EnrolleeFiles

    own = Context.load(EnrolleeFiles(agent.control).context)
    return replace(own, endpoints={**own.endpoints, "credentials": control_plane.addresses("credentials")})


def _show_passwords(guide: Guide, passwords: "Passwords", member: str) -> None:
    from keyreeve.errors import StartFailed

    guide.say(f"Put a password into the vault; {member} launches an application with it.")
    password = passwords.put()
    if passwords.resolved_by_the_member() != password:
        raise StartFailed("the vault answered another password than the one that was put")
    guide.note(f"the vault decides which password, and says why: {passwords.explained()}")
    guide.say("Re-key the vault: every value is encrypted again, under a new key, while it is used.")
    done = passwords.rotate()
    if passwords.resolved_by_the_member() != password:
        raise StartFailed("after the re-keying the vault answered another password")
    guide.note(f"{done} re-encrypted; the member gets the same password")


def _detach(guide: Guide, client: "Client", agents: "list[LocalAgent]", found: Findings) -> Findings:
    from keyreeve.cli.tour.talking import PeerCaller

    one, _, three = agents
    copy = _frozen(three)
    caller = PeerCaller(copy)
    operation = client.membership.arrays.detach(three.name)
    began = time.monotonic()
    while not found.refused and time.monotonic() - began < REFUSED_SECONDS:
        found.refused = caller.ping(one)
        time.sleep(_POLL_SECONDS)
    found.refused_after = round(time.monotonic() - began, 2)
    _await(guide, client, operation)
    caller.close()
    if found.refused:
        guide.note(
            f"with the certificate that it had, {one.name} refuses it: {found.refused} after {found.refused_after:g} s"
        )
    else:
        guide.note(f"{one.name} still answers it after {REFUSED_SECONDS:g} s")
    three.wait_for("it stands alone again", lambda status: [m["name"] for m in status["members"]] == [three.name])
    guide.note("it stands alone again, with a new CA of its own")
    return found


def _frozen(agent: "LocalAgent") -> "LocalAgent":
    """The agent's files as they are now."""
    from keyreeve.cli.tour.local_agents import LocalAgent

    copy = LocalAgent(agent.name, agent.address, agent.directory / "before")
    copy.material.parent.mkdir(parents=True, mode=0o700)
    shutil.copytree(agent.material.resolve(), copy.material)
    return copy


def _other_than(certificate: str) -> "Callable[[Mapping[str, Any]], bool]":
    return lambda status: bool(status["certificate"] != certificate)


def _reaches_two(status: "object") -> bool:
    peers = status["peers"] if isinstance(status, dict) else {}
    return len(peers) == 2 and all(one["reachable"] for one in peers.values())


def _await(guide: Guide, client: "Client", operation: "Operation") -> None:
    """Follow an operation to its end. Raises `StartFailed` if it fails."""
    from keyreeve.errors import StartFailed
    from keyreeve.operation_values import OperationState

    phase = ""
    for state in client.membership.operations.watch(operation.name):
        if state.phase and state.phase != phase:
            phase = state.phase
            guide.note(f"{phase}{': ' + _PHASES[phase] if phase in _PHASES else ''}")
        if state.state is OperationState.FAILED:
            raise StartFailed(f"{state.method}: {state.error_reason}: {state.error_message}")


_PHASES = {
    "prepared": "the new CA exists and signs nothing",
    "distributed": "all members load old and new CA, and prove it",
    "activated": "the new CA issues",
    "reissued": "every member presents a new certificate",
    "distrusted": "the old CA leaves the bundle, and its key is destroyed",
}
