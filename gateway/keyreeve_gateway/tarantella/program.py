"""The `tarantella` program: its families and verbs."""

from keyreeve_gateway.grammar.model import Program
from keyreeve_gateway.tarantella import array, config, objects, passcache, security
from keyreeve_gateway.tarantella.status import status

TARANTELLA = Program(
    "tarantella",
    "Controls arrays of servers and their password cache.",
    (array.FAMILY, config.FAMILY, objects.FAMILY, passcache.FAMILY, security.FAMILY),
    (status.VERB,),
)
