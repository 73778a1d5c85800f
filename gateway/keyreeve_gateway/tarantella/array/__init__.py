"""`tarantella array`: arrays of servers."""

from keyreeve_gateway.grammar.model import Family
from keyreeve_gateway.tarantella.array import list_members

FAMILY = Family("array", "Creates and manages arrays of servers.", (list_members.VERB,))
