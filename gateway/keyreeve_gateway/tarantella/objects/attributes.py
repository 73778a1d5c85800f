"""The attributes of objects: options, and what the vault calls them."""

from typing import Any

from keyreeve_gateway.grammar.model import Difference, Option, Source
from keyreeve_gateway.grammar.parsed import Parsed

NAME = Option("--name", "obj", "TFN name of the object.", required=True, source=Source.UNDOCUMENTED)
DOMAIN = Option("--ntdomain", "dom", "Windows domain; - removes it.", source=Source.UNDOCUMENTED)
AUTH = Option(
    "--auth",
    "trytta",
    "Whether the user's own password is tried on the application server.",
    choices=("trytta", "nevertrytta", "default"),
)
NETWORK = Option(
    "--enhancednetworksecurity", "1", "Network-level authentication of a Windows application.", choices=("1", "0")
)
USAGE = {"trytta": "try", "nevertrytta": "never", "default": "default"}
"""The vault's words by those of --auth."""
LISTED = {"try": "true", "never": "false", "default": "default"}
"""How the legacy product lists them."""
UNREAD = Difference(
    "Only the attributes that decide about credentials are known.",
    "Nothing here reads the others of the legacy product.",
)


def attributes_of(parsed: Parsed) -> dict[str, Any]:
    """The attributes that are given, as the vault's client takes them."""
    from keyreeve.launch_values import PasswordCacheUsage

    given: dict[str, Any] = {}
    if parsed.given("--ntdomain"):
        domain = parsed.text("--ntdomain")
        given["domain"] = "" if domain == "-" else domain
    if parsed.given("--auth"):
        given["password_cache_usage"] = PasswordCacheUsage(USAGE[parsed.text("--auth")])
    if parsed.given("--enhancednetworksecurity"):
        given["enhanced_network_security"] = parsed.text("--enhancednetworksecurity") == "1"
    return given
