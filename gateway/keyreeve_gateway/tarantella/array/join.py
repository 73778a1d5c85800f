"""`tarantella array join`."""

import re
from typing import TYPE_CHECKING

from keyreeve.errors import FingerprintMismatch
from keyreeve_gateway.grammar.model import Difference, Option, Source, Verb
from keyreeve_gateway.invocation import CommandFailed, Invocation
from keyreeve_gateway.tarantella.array.certificates import ca_of, describe_ca
from keyreeve_gateway.tarantella.array.waiting import WAITS, WHY_WAIT, wait_for

if TYPE_CHECKING:
    from keyreeve.membership_values import Array


async def join_array(call: Invocation) -> None:
    """Add a server to an array, after its operator has accepted the CA of the other side."""
    primary = call.parsed.text("--primary", call.local_server)
    secondary = call.parsed.text("--secondary", call.local_server)
    if primary.casefold() == secondary.casefold():
        raise CommandFailed(f"{primary} cannot join itself: name the other server")
    other = secondary if call.local_server.casefold() == primary.casefold() else primary
    array = await call.services.membership.arrays.get((await call.member(other)).array)
    accepted = await _accepted(call, other, array) if array.peer_security else b""
    begun = await call.services.membership.arrays.join(primary, secondary, accepted_sha256=accepted)
    await wait_for(call, begun)


async def _accepted(call: Invocation, other: str, array: "Array") -> bytes:
    """The fingerprint of the other side's CA, as a person has accepted it, or has given it. Raises `CommandFailed`."""
    certificate = await ca_of(call, array)
    given = call.parsed.text("--fingerprint")
    if given:
        if re.sub("[: ]", "", given).lower() != certificate.sha256.hex():
            raise FingerprintMismatch(f"the CA certificate of {other} has another fingerprint; nothing was changed")
        return certificate.sha256
    if not call.console.interactive:
        raise CommandFailed(
            f"nobody can accept the CA certificate of {other}: give its SHA-256 fingerprint with --fingerprint"
        )
    call.console.say(f"The CA certificate of {other}:")
    for line in describe_ca(certificate):
        call.console.say(f"  {line}")
    answer = await call.console.ask(call.settings.accept_prompt)
    if answer is None or answer.strip().lower() != call.settings.accept_answer.lower():
        raise CommandFailed("the certificate was not accepted; nothing was changed")
    return certificate.sha256


VERB = Verb(
    "join",
    "Adds a server to an array.",
    join_array,
    (
        Option("--primary", "pserv", "Peer DNS name of the array's primary; default: this server."),
        Option("--secondary", "sserv", "Peer DNS name of the server to add; default: this server."),
        Option(
            "--fingerprint",
            "sha256",
            "SHA-256 fingerprint of the other side's CA certificate, accepted beforehand.",
            source=Source.ADDED,
        ),
    ),
    rpcs=(
        "MemberService/GetMember",
        "ArrayService/GetArray",
        "BundleService/GetBundle",
        "ArrayService/JoinArray",
        "OperationService/WatchOperation",
    ),
    differences=(
        Difference(
            "Without a terminal it fails unless `--fingerprint` gives what a person has compared.",
            "The original can only ask.",
        ),
        Difference("The wording of the question is a setting.", "No manual shows it; only an explicit `yes` accepts."),
        Difference("Run on a third server, it shows the CA of the primary.", "The manuals know the two servers only."),
        Difference(WAITS, WHY_WAIT),
    ),
)
