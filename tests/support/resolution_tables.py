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
# kind, smart cards, box checked, box enabled: the box Always Use Smart Card
SMART_CARD_BOX_TABLE = """
x        *        *    *    absent
*        refused  *    *    absent
*        *        on   yes  checked
*        *        on   no   checked-locked
*        *        off  yes  cleared
*        *        off  no   cleared-locked
"""
# box checked, box enabled: the box Save Password
SAVE_PASSWORD_BOX_TABLE = """
on   yes  checked
on   no   checked-locked
off  yes  cleared
off  no   cleared-locked
"""
# a box, and how the user leaves it: whether it counts as checked
BOX_TABLE = """
absent          *    no
checked-locked  *    yes
cleared-locked  *    no
*               on   yes
*               off  no
"""
# always use smart card, save password, kind, NT Domain given: where the answer is saved
SAVED_TABLE = """
yes  *    *        *    card-of-server
*    no   *        *    nowhere
*    *    x        *    password-of-server
*    *    *        no   nowhere
*    *    *        *    password-of-domain
"""
# kind, enhanced network security, outcome, credential, action when expired, dialog display: next step, and the entry
OUTCOME_TABLE = """
x        *    nla      *         *       *       impossible   -
windows  off  nla      *         *       *       impossible   -
windows  on   nla      password  *       *       retry-shift  stays
windows  on   nla      login     *       *       retry-shift  stays
windows  on   nla      *         *       none    failure      stays
windows  on   nla      *         *       *       dialog       stays
windows  *    *        *         *       *       continue     stays
*        *    success  *         *       *       continue     stays
*        *    expired  *         manual  *       terminal     stays
*        *    expired  *         none    *       failure      stays
*        *    expired  *         dialog  none    failure      stays
*        *    expired  *         dialog  *       dialog       stays
*        *    refused  login     *       none    failure      stays
*        *    refused  login     *       *       dialog       stays
*        *    refused  *         *       none    failure      goes
*        *    refused  *         *       *       dialog       goes
"""
# third party, setting, profile, its domain: whether the password of a login is saved
LOGIN_TABLE = """
yes  *    *        *  no
no   off  *        *  no
no   on   missing  *  without-domain
no   on   *        -  without-domain
no   on   *        *  with-domain
"""
DIALOG_DIMENSIONS: dict[str, tuple[str, ...]] = {
    "kind": ("windows", "x"),
    "smart_cards": ("allowed", "refused"),
    "card_box": ("on", "off"),
    "card_box_enabled": ("yes", "no"),
    "save_box": ("on", "off"),
    "save_box_enabled": ("yes", "no"),
    "profile": ("missing", "", "A"),
    "card_left": ("on", "off"),
    "save_left": ("on", "off"),
    "domain_given": ("yes", "no"),
    "server_entry": ("", "password", "card"),
}
OUTCOME_DIMENSIONS: dict[str, tuple[str, ...]] = {
    "kind": ("windows", "x"),
    "nla": ("on", "off"),
    "outcome": ("success", "refused", "expired", "nla"),
    "used": ("typed", "password", "login", "card"),
    "expired": ("dialog", "manual", "none"),
    "display": ("user", "system", "none"),
}
LOGIN_DIMENSIONS: dict[str, tuple[str, ...]] = {
    "third_party": ("yes", "no"),
    "setting": ("on", "off"),
    "profile": ("missing", "", "A"),
}

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
    for line in _PARSED[table]:
        pattern, results = line[: len(facts)], line[len(facts) :]
        if all(wanted in ("*", fact) for wanted, fact in zip(pattern, facts, strict=True)):
            return " ".join(results)
    raise AssertionError(f"{table} has no line for {facts}")


def cases(dimensions: Mapping[str, tuple[str, ...]] = DIMENSIONS) -> Iterator[dict[str, str]]:
    """All combinations, such as those of attributes, settings and entries."""
    names = tuple(dimensions)
    for values in product(*dimensions.values()):
        yield dict(zip(names, values, strict=True))


def boxes(case: Mapping[str, str]) -> tuple[str, str]:
    """Return the boxes Save Password and Always Use Smart Card of the dialog."""
    return (
        _look_up("SAVE_PASSWORD_BOX_TABLE", case["save_box"], case["save_box_enabled"]),
        _look_up("SMART_CARD_BOX_TABLE", case["kind"], case["smart_cards"], case["card_box"], case["card_box_enabled"]),
    )


def saved(case: Mapping[str, str]) -> tuple[str, str]:
    """Return where the answer to the dialog is saved, and whether an earlier decision for a smart card is given up."""
    save, card = boxes(case)
    always = _look_up("BOX_TABLE", card, case["card_left"])
    where = _look_up(
        "SAVED_TABLE", always, _look_up("BOX_TABLE", save, case["save_left"]), case["kind"], case["domain_given"]
    )
    # "Clear the box to log in with a password again": the decision is replaced, or deleted.
    given_up = case["server_entry"] == "card" and card != "absent" and always == "no"
    return where, "given-up" if given_up else "kept"


def reaction(case: Mapping[str, str]) -> tuple[str, str]:
    """Return what the launcher does after an outcome, and what becomes of the entry."""
    names = ("kind", "nla", "outcome", "used", "expired", "display")
    line = _look_up("OUTCOME_TABLE", *(case[name] for name in names))
    step, _, entry = line.partition(" ")
    return step, entry


def login_saved(case: Mapping[str, str]) -> str:
    """Return whether the password of a login is saved: `no`, `without-domain` or `with-domain`."""
    return _look_up("LOGIN_TABLE", case["third_party"], case["setting"], case["profile"], case["profile"] or "-")


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
