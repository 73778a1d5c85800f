"""`tarantella security`: the CA of the array."""

from keyreeve_gateway.grammar.model import Family
from keyreeve_gateway.tarantella.security import peerca

FAMILY = Family("security", "Controls the security of connections between servers.", (peerca.VERB,))
