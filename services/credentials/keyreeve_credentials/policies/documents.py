"""Rules as canonical JSON."""

import json
from dataclasses import fields

from keyreeve_credentials.policies.rules import Membership, Rule


def rules_text(rules: tuple[Rule, ...]) -> str:
    """Encode rules: the same rules have the same text."""
    rows = [{field.name: getattr(rule, field.name) for field in fields(Rule)} for rule in rules]
    return json.dumps(rows, separators=(",", ":"), sort_keys=True, ensure_ascii=False)


def parse_rules(text: str) -> tuple[Rule, ...]:
    """Undo `rules_text`. Raises `ValueError`, `TypeError` or `KeyError` for other texts."""
    found = []
    for row in json.loads(text):
        patterns = {name: tuple(values) for name, values in row.items() if name != "membership"}
        found.append(Rule(**patterns, membership=Membership(row["membership"])))
    return tuple(found)
