"""`tarantella passcache list`."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from keyreeve_gateway.grammar.model import Difference, Option, Verb
from keyreeve_gateway.invocation import Invocation
from keyreeve_gateway.tarantella.passcache.owners import (
    ANONYMOUS,
    LDAP,
    OWNER,
    RESOURCE,
    RESUSER,
    owner_of,
    resource_of,
)
from keyreeve_gateway.tarantella.xml_reply import xml_reply

if TYPE_CHECKING:
    from keyreeve.vault_values import Entry


async def list_entries(call: Invocation) -> None:
    """List entries, all unless the options select some; passwords are not part of them."""
    found = call.services.credentials.entries.list(
        await call.array(),
        owner=owner_of(call.parsed),
        resource=resource_of(call.parsed),
        user_name=call.parsed.text("--resuser"),
        login_only=call.parsed.given("--ldap"),
    )
    entries = [entry async for entry in found]
    for line in as_xml(entries) if call.parsed.text("--format") == "xml" else as_text(entries):
        call.console.say(line)


def as_text(entries: "Sequence[Entry]") -> Iterator[str]:
    """One line per entry, in the grammar of batch files, without passwords."""
    for entry in entries:
        words = [_owner(entry.owner)]
        if entry.resource:
            words.append(f"--resource {_quoted(entry.resource)}")
        yield " ".join((*words, f"--resuser {_quoted(entry.user_name)}"))


def as_xml(entries: "Sequence[Entry]") -> Iterator[str]:
    """The entries as objects of the legacy product's XML replies."""
    return xml_reply(
        ("passcache", {"person": entry.owner, "resource": entry.resource, "resuser": entry.user_name})
        for entry in entries
    )


def _owner(owner: str) -> str:
    return {ANONYMOUS: "--anon", LDAP: "--ldap"}.get(owner, f"--person {_quoted(owner)}")


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


VERB = Verb(
    "list",
    "Lists entries in the password cache.",
    list_entries,
    (OWNER, RESOURCE, RESUSER, Option("--format", "text", "Form of the output.", choices=("text", "xml"))),
    batch=True,
    rpcs=("MemberService/GetMember", "EntryService/ListEntries"),
    differences=(
        Difference(
            "The layout of the text is that of a line of a batch file, and that of the XML is the legacy product's "
            "reply to programs.",
            "No manual shows the layout.",
        ),
        Difference(
            "* stands for any characters in the options.", "The legacy console does that, the command is not known to."
        ),
    ),
)
