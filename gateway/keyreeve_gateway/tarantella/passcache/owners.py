"""Owners and resources of entries: the options that name them, and what the vault calls them."""

from dataclasses import replace

from keyreeve_gateway.grammar.model import OneOf, Option
from keyreeve_gateway.grammar.parsed import Parsed
from keyreeve_gateway.invocation import CommandFailed

ANONYMOUS, LDAP = "anonymous", "ldap"
"""Names of the owners that are no persons, in the vault."""

PERSON = Option("--person", "pobj", "TFN name of the owner of the entry.")
ANON = Option("--anon", help="The entry for anonymous users.")
LDAP_OPTION = Option("--ldap", help="The entry for the LDAP directory server; --resource is ignored.")
OWNER = OneOf((PERSON, ANON, LDAP_OPTION))
REQUIRED_OWNER = replace(OWNER, required=True)
RESOURCE = Option("--resource", "resource", "TFN name of the application server or the Windows domain.")
REQUIRED_RESOURCE = replace(RESOURCE, required=True, unless="--ldap")
RESUSER = Option("--resuser", "resuser", "User name, exactly as it is typed in the authentication dialog.")
RESPASS = Option("--respass", "respass", "Password; it is asked for unless it is given.", secret=True)


def owner_of(parsed: Parsed) -> str:
    """The owner that the options name; empty: none."""
    if parsed.given("--anon"):
        return ANONYMOUS
    return LDAP if parsed.given("--ldap") else parsed.text("--person")


def resource_of(parsed: Parsed) -> str:
    """The resource that the options name; empty: none."""
    return "" if parsed.given("--ldap") else parsed.text("--resource")


def exact(owner: str, resource: str) -> None:
    """Refuse wildcards in names of what is changed. Raises `CommandFailed`."""
    for name in (owner, resource):
        if "*" in name:
            raise CommandFailed(f"wildcards are not possible here: {name}")
