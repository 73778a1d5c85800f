"""`tarantella security peerca`."""

from keyreeve_gateway.grammar.model import Difference, OneOf, Option, Verb
from keyreeve_gateway.invocation import CommandFailed, Invocation
from keyreeve_gateway.tarantella.array.certificates import as_pem, ca_of, describe_ca


async def peer_ca(call: Invocation) -> None:
    """Show or export the CA certificate of this server's array, or check that it trusts another one."""
    membership = call.services.membership
    name = call.settings.array or (await call.member()).array
    if call.parsed.given("--import"):
        await _check_trust(call, name, call.parsed.text("--import"))
        return
    certificate = await ca_of(call, await membership.arrays.get(name))
    for line in as_pem(certificate) if call.parsed.given("--export") else describe_ca(certificate):
        call.console.say(line)


async def _check_trust(call: Invocation, array: str, host: str) -> None:
    """Say whether the members of an array trust the CA of a server. Raises `CommandFailed`."""
    membership = call.services.membership
    other = await ca_of(call, await membership.arrays.get((await call.member(host)).array))
    epoch = await membership.bundles.get(array)
    if other.der not in {authority.certificate_der for authority in epoch.authorities}:
        raise CommandFailed(f"the CA certificate of {host} is not imported: `tarantella array join` adds a server")
    for line in describe_ca(other):
        call.console.say(line)


VERB = Verb(
    "peerca",
    "Shows, imports or exports the CA certificate of the array's primary.",
    peer_ca,
    (
        OneOf(
            (
                Option("--show", help="Shows the certificate with its fingerprints; the default."),
                Option("--import", "hostname", "Imports the certificate from a server."),
                Option("--export", help="Writes the certificate in PEM."),
            )
        ),
    ),
    rpcs=("MemberService/GetMember", "ArrayService/GetArray", "BundleService/GetBundle"),
    differences=(
        Difference("The layout.", "No manual shows it."),
        Difference(
            "--import succeeds if the array trusts the CA of that server already, and imports nothing otherwise.",
            "Members load the certificates that the membership service distributes, and count as trusting a CA once they "
            "have proved it; a certificate that is put in by hand would not be counted.",
        ),
    ),
)
