"""`tarantella object`: the objects whose attributes decide about launches."""

from keyreeve_gateway.grammar.model import Family
from keyreeve_gateway.tarantella.objects import delete, edit, list_attributes, new

FAMILY = Family(
    "object",
    "Manages application servers, applications and user profiles.",
    (delete.VERB, edit.VERB, list_attributes.VERB, *new.VERBS),
)
