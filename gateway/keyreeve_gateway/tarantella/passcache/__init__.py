"""`tarantella passcache`: the passwords of application servers."""

from keyreeve_gateway.grammar.model import Family
from keyreeve_gateway.tarantella.passcache import delete, edit, list_entries, new

FAMILY = Family(
    "passcache",
    "Manages the application server password cache.",
    (delete.VERB, edit.VERB, list_entries.VERB, new.VERB),
)
