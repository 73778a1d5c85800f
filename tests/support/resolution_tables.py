"""A second resolver: decision tables written from the legacy manual's text, sharing no code with the service.

A case is a dict of plain texts. `*` in a table matches anything; the first line that matches decides.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from itertools import product

WINDOWS_TABLE = """
forced   *      *      *      *      *       dialog
*        card   *      *      *      *       smart
*        *      entry  *      *      *       server's
*        *      none   entry  *      *       application's
*        *      unset  entry  *      *       application's
*        *      none   none   entry  *       profile's
*        *      none   unset  entry  *       profile's
*        *      unset  none   entry  *       profile's
*        *      unset  unset  entry  *       profile's
*        *      *      *      *      user    dialog
*        *      *      *      *      system  dialog
*        *      *      *      *      none    failure
"""
OTHER_TABLE = """
forced   *      *      *       dialog
*        entry  *      *       entry
*        none   login  *       login
*        none   none   user    dialog
*        none   none   system  dialog
*        none   none   none    failure
"""
USAGE_TABLE = """
try      *    yes
never    *    no
default  on   yes
default  off  no
"""
IN_ADVANCE_TABLE = """
set    *      *       server
unset  set    *       application
unset  unset  cached  cached
unset  unset  -       empty
"""

DIMENSIONS: dict[str, tuple[str, ...]] = {
    "kind": ("windows", "x"),
    "server_domain": ("", "A"),
    "application_domain": ("", "A", "B"),
    "profile_domain": ("", "A", "B"),
    "server_entry": ("", "password", "card"),
    "domain_entries": ("", "A", "B", "A B"),
    "login": ("", "plain", "A"),
    "display": ("user", "system", "none"),
    "shift": ("", "yes"),
    "array_usage": ("on", "off"),
    "server_usage": ("default", "try", "never"),
    "third_party": ("", "yes"),
    "smart_cards": ("allowed", "refused"),
}


def _lines(table: str) -> list[tuple[str, ...]]:
    return [tuple(line.split()) for line in table.strip().splitlines()]


_PARSED = {name: _lines(table) for name, table in globals().items() if name.endswith("_TABLE")}


@cache
def _look_up(table: str, *facts: str) -> str:
    for *pattern, result in _PARSED[table]:
        if all(wanted in ("*", fact) for wanted, fact in zip(pattern, facts, strict=True)):
            return result
    raise AssertionError(f"{table} has no line for {facts}")


def cases() -> Iterator[dict[str, str]]:
    """All combinations of attributes, settings and entries."""
    names = tuple(DIMENSIONS)
    for values in product(*DIMENSIONS.values()):
        yield dict(zip(names, values, strict=True))


def answer(case: Mapping[str, str]) -> str:
    """Return what the tables say: `dialog DOMAIN`, `smart`, `failure`, or `use RESOURCE [DOMAIN]`."""
    # "A user authenticated by a third party: the password of the login cannot be stored."
    login = "" if case["third_party"] else case["login"]
    usage = _look_up("USAGE_TABLE", case["server_usage"], case["array_usage"])
    forced = "forced" if case["shift"] and case["display"] == "user" else "-"
    if case["kind"] == "x":
        entry = "entry" if case["server_entry"] == "password" else "none"
        tried = "login" if login and usage == "yes" else "none"
        found = _look_up("OTHER_TABLE", forced, entry, tried, case["display"])
        return {"entry": "use server", "login": "use login", "dialog": "dialog -"}.get(found, found)
    cached = set(case["domain_entries"].split())

    def state(domain: str) -> str:
        if not domain:
            return "unset"
        return "entry" if domain in cached or (usage == "yes" and login == domain) else "none"

    domains = [case[f"{holder}_domain"] for holder in ("server", "application", "profile")]
    card = "card" if case["server_entry"] == "card" and case["smart_cards"] == "allowed" else "-"
    found = _look_up("WINDOWS_TABLE", forced, card, *map(state, domains), case["display"])
    if found.endswith("'s"):
        domain = domains[("server's", "application's", "profile's").index(found)]
        return f"use {'domain' if domain in cached else 'login'} {domain}"
    return f"dialog {_in_advance(case, cached, login)}" if found == "dialog" else found


def _in_advance(case: Mapping[str, str], cached: set[str], login: str) -> str:
    """ "Filled when the domain is set on the server or the application, or cached; not by the profile alone."

    Which of several cached domains: the profile's if cached, else the one used last (here: the login's is oldest, B newest).
    """
    known = cached | ({login} - {"", "plain"})
    server, application = case["server_domain"], case["application_domain"]
    which = _look_up(
        "IN_ADVANCE_TABLE",
        "set" if server else "unset",
        "set" if application else "unset",
        "cached" if known else "-",
    )
    newest = case["profile_domain"] if case["profile_domain"] in known else max(known, default="")
    return {"server": server, "application": application, "cached": newest}.get(which, "-")
