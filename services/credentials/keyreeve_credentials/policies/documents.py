"""Rules as canonical JSON, and the MAC of a stored policy."""

import hmac
import json
from dataclasses import fields

from keyreeve.length_prefix import length_prefixed
from keyreeve_credentials.policies.rules import Membership, Policy, Rule

_LABEL = b"keyreeve-vault-policy-1"


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


def policy_mac(key: bytes, policy: Policy) -> bytes:
    """HMAC-SHA-256 over everything that a policy says."""
    numbers = (policy.version, policy.created_at)
    message = length_prefixed(
        _LABEL,
        policy.name.encode(),
        rules_text(policy.rules).encode(),
        policy.creator.encode(),
        *(number.to_bytes(8, "big") for number in numbers),
    )
    return hmac.digest(key, message, "sha256")
