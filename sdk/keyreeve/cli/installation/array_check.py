"""Check an installation in Kubernetes from two pods: their agents form an array, and one resolves a password that the other put.

The chart's test runs it as two servers, each with an account that may enroll as a member. `lead` is the primary: it waits
for the other to join, puts a password, and dissolves the array when the other has resolved it. `follow` joins and resolves, and
then waits to be stopped. Each leaves in the end: the test can be repeated.
"""

import argparse
import secrets
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

from keyreeve import Client, Context
from keyreeve.cli.installation.pod import Pod, add_arguments, fail, pod_of, say
from keyreeve.cli.tour.local_agents import LocalAgent
from keyreeve.enrollee_files import EnrolleeFiles
from keyreeve.errors import KeyreeveError, NotFound, StartFailed, Unavailable
from keyreeve.launch_values import ApplicationKind, Credential, Launch, LaunchOutcome, ObjectKind
from keyreeve.operation_values import Operation, OperationState
from keyreeve.plaintext import Plaintext
from keyreeve.values import MemberState

T = TypeVar("T")

OWNER, APPLICATION, HOST = "o=Installation check/cn=Ada", "o=Installation check/cn=Mail", "o=Installation check/cn=host"
_PAUSE_SECONDS = 0.5


@dataclass(frozen=True)
class Server:
    """One of the two servers, with its agent running."""

    agent: LocalAgent
    client: Client
    """With its own identity."""
    until: float
    """When to give up, on the monotonic clock."""

    def wait_for(self, what: str, look: Callable[[], T | None]) -> T:
        """Look until there is something, and print it as done. Raises `StartFailed`."""
        problem: KeyreeveError | None = None
        while True:
            found = None
            try:
                found = look()
            except KeyreeveError as failure:
                problem = failure
            if found:
                say(what)
                return found
            if time.monotonic() > self.until:
                raise StartFailed(f"not in time: {what}; {problem or 'no call has failed'}")
            time.sleep(_PAUSE_SECONDS)

    def own_array(self) -> str:
        """The array that this server belongs to."""
        return self.client.membership.members.get(self.agent.name).array

    def stands_alone(self) -> bool:
        """Whether it belongs to no array of several."""
        return self.client.membership.members.get(self.agent.name).state is MemberState.STANDALONE

    def both_joined(self, other: str) -> bool:
        """Whether this server and the other are members of one array."""
        found = self.client.membership.members.list(array=self.own_array())
        joined = {one.name for one in found if one.state is MemberState.MEMBER}
        return joined == {f"members/{self.agent.name}", f"members/{other}"}

    def reaches(self, other: str) -> bool:
        """Whether its agent has dialed the other's: each has verified the other's certificate."""
        peers = self.agent.status.get("peers", {})
        return bool(peers.get(other, {}).get("reachable"))

    def end(self, begun: Operation) -> bool:
        """Follow an operation to its end. Raises `StartFailed` if it fails."""
        *_, last = self.client.membership.operations.watch(begun.name)
        if last.state is not OperationState.SUCCEEDED:
            raise StartFailed(f"{last.method}: {last.error_reason}: {last.error_message}")
        return True

    def leave(self) -> None:
        """Stop the agent and give up the identity. Raises `StartFailed`."""
        self.agent.stop()
        self.agent.leave()
        say(f"{self.agent.name} has left")


@contextmanager
def running(pod: Pod, agent: LocalAgent, endpoints: dict[str, list[str]], until: float) -> Iterator[Server]:
    """Enroll unless an earlier start has, and run the agent. Raises `KeyreeveError`, `OSError`."""
    if not EnrolleeFiles(agent.control).certificate.exists():
        shutil.rmtree(agent.directory, ignore_errors=True)
        agent.configure(endpoints)
        agent.enroll(_token(pod, until))
    say(f"{agent.name} has enrolled")
    agent.start()
    try:
        agent.wait_for("the agent has reported", lambda status: bool(status.get("array")), until - time.monotonic())
        own = Context.load(EnrolleeFiles(agent.control).context)
        with Client(replace(own, endpoints={**own.endpoints, **endpoints})) as client:
            yield Server(agent, client, until)
    finally:
        agent.stop()


def _token(pod: Pod, until: float) -> str:
    """Exchange the account's token as soon as the CA answers. Raises `KeyreeveError`, `OSError`."""
    while True:
        try:
            return pod.enrollment_token().text()
        except Unavailable:
            if time.monotonic() > until:
                raise
        time.sleep(_PAUSE_SECONDS)


def lead_array(server: Server, other: str) -> None:
    """Be the primary. Raises `KeyreeveError`."""
    server.wait_for(f"{other} has joined", lambda: server.both_joined(other))
    server.wait_for(f"{other} answers over mutual TLS", lambda: server.reaches(other))
    array = server.own_array()
    password = secrets.token_urlsafe(16)
    server.wait_for("put a password", lambda: _put(server, array, password))
    server.wait_for(f"{other} has resolved it", lambda: _is_gone(server, array))
    _clean(server, array)
    server.end(server.client.membership.arrays.dissolve(array))
    say("dissolved the array")
    server.wait_for("the primary stands alone", server.stands_alone)
    server.leave()


def _put(server: Server, array: str, password: str) -> bool:
    """Put it with its digest as the user name, by which the other server knows it."""
    _clean(server, array)
    vault = server.client.credentials
    vault.objects.create(array, HOST, ObjectKind.APPLICATION_SERVER)
    vault.objects.create(array, APPLICATION, ObjectKind.APPLICATION, application_kind=ApplicationKind.X)
    vault.entries.create(array, OWNER, HOST, sha256(password.encode()).hexdigest(), Plaintext.of(password))
    return True


def _is_gone(server: Server, array: str) -> bool:
    return not list(server.client.credentials.entries.list(array, owner=OWNER))


def _clean(server: Server, array: str) -> None:
    """Delete what this test, or one that was broken off, has put."""
    vault = server.client.credentials
    vault.entries.delete_all(array, owner=OWNER)
    for name in (HOST, APPLICATION):
        with suppress(NotFound):
            vault.objects.delete(array, name)


def join_array(server: Server, primary: str) -> None:
    """Join the primary's array, resolve its password, and leave. Raises `KeyreeveError`."""
    server.wait_for(f"joined {primary}", lambda: server.both_joined(primary) or _join(server, primary))
    launch = Launch(server.own_array(), OWNER, APPLICATION, HOST)
    found = server.wait_for("resolved a password", lambda: _resolved(server, launch))
    if sha256(found.secret.reveal()).hexdigest() != found.user_name:
        raise StartFailed("it is not the password that was put")
    # Of an application that is none of Windows, a password that was refused is deleted: the primary waits for that.
    refused = LaunchOutcome.REFUSED
    server.client.credentials.resolution.report(launch, refused, entry=found.entry, entry_version=found.entry_version)
    server.wait_for("stands alone again", server.stands_alone)
    server.leave()


def _join(server: Server, primary: str) -> bool:
    arrays = server.client.membership.arrays
    array = next((one for one in arrays.list() if one.primary == f"members/{primary}"), None)
    if array is None:
        return False
    return server.end(arrays.join(primary, server.agent.name, accepted_sha256=array.authority_sha256))


def _resolved(server: Server, launch: Launch) -> Credential | None:
    found = server.client.credentials.resolution.resolve(launch)
    return found if isinstance(found, Credential) else None


def main(arguments: Sequence[str] | None = None) -> int:
    """Check, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m keyreeve.cli.installation.array_check", description=__doc__)
    parser.add_argument("part", choices=("lead", "follow"))
    add_arguments(parser)
    parser.add_argument("--name", required=True, help="this server's peer DNS name, which its account gives it")
    parser.add_argument("--other", required=True, help="the other server's")
    parser.add_argument("--address", required=True, metavar="HOST:PORT", help="of this server's agent")
    parser.add_argument("--membership", required=True, metavar="HOST:PORT")
    parser.add_argument("--credentials", required=True, metavar="HOST:PORT")
    parser.add_argument("--directory", type=Path, default=Path("/tmp/server"))  # noqa: S108 - the pod's own volume
    given = parser.parse_args(arguments)
    agent = LocalAgent(given.name, given.address, given.directory)
    endpoints = {"membership": [given.membership], "credentials": [given.credentials]}
    part = lead_array if given.part == "lead" else join_array
    # The pods are deleted as soon as the primary has succeeded: the other server still leaves, within the grace period.
    ending = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ending.set())
    try:
        with running(pod_of(given), agent, endpoints, time.monotonic() + given.wait) as server:
            part(server, given.other)
    except (KeyreeveError, OSError) as failure:
        return fail(failure)
    if part is join_array:
        ending.wait()  # a Deployment would start it again
    return 0


if __name__ == "__main__":
    sys.exit(main())
