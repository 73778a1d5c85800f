"""`tarantella array`: arrays of servers."""

from keyreeve_gateway.grammar.model import Family
from keyreeve_gateway.tarantella.array import backups, clean, detach, join, list_members, make_primary

FAMILY = Family(
    "array",
    "Creates and manages arrays of servers.",
    (
        backups.ADD,
        clean.VERB,
        detach.VERB,
        backups.EDIT,
        join.VERB,
        list_members.VERB,
        backups.LIST,
        make_primary.VERB,
        backups.REMOVE,
    ),
)
