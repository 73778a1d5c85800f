"""`tarantella config`: attributes of the array and its servers."""

from keyreeve_gateway.grammar.model import Family
from keyreeve_gateway.tarantella.config import edit, list_settings

FAMILY = Family("config", "Lists and changes attributes of the array and its servers.", (edit.VERB, list_settings.VERB))
