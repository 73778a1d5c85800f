"""Policy rules and their evaluation: pure, default deny."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from keyreeve.errors import FieldInvalid, Violation

BUILT_IN = "built-in"
MOST_RULES = 200
MOST_PATTERNS = 100
MOST_CHARACTERS = 512
MANAGE, LIST, LAUNCH = "manage", "list", "launch"
"""Purposes of the calls that name none."""
RESERVED_PURPOSES = frozenset({MANAGE, LIST, LAUNCH})
"""No secret is read for them by name: they are granted to people who may manage entries without seeing secrets."""

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")


class Standing(StrEnum):
    """What the membership service says of a caller, with regard to one array."""

    NONE = "none"
    MEMBER = "member"
    PRIMARY = "primary"


class Membership(StrEnum):
    """The condition of a rule."""

    ANY = "any"
    MEMBER_OF_ARRAY = "member"
    PRIMARY_OF_ARRAY = "primary"

    def allows(self, standing: Standing) -> bool:
        """Whether a caller of this standing meets it; a primary is a member."""
        match self:
            case Membership.ANY:
                return True
            case Membership.MEMBER_OF_ARRAY:
                return standing is not Standing.NONE
            case Membership.PRIMARY_OF_ARRAY:
                return standing is Standing.PRIMARY


@dataclass(frozen=True, slots=True)
class Access:
    """One access: who, of what standing, to what, for what. Owner and resource are None where several are meant."""

    caller: str
    """The path of the SPIFFE ID."""
    standing: Standing
    array_id: str
    owner: str | None
    resource: str | None
    purpose: str


@dataclass(frozen=True, slots=True)
class Rule:
    """Allows accesses; texts are patterns in which `*` stands for any characters, and no pattern means everything."""

    callers: tuple[str, ...]
    purposes: tuple[str, ...]
    membership: Membership = Membership.ANY
    arrays: tuple[str, ...] = ()
    owners: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()

    def allows(self, access: Access) -> bool:
        """Whether it allows an access."""
        return (
            self.membership.allows(access.standing)
            and _matches(self.callers, access.caller)
            and _matches(self.purposes, access.purpose)
            and (not self.arrays or _matches(self.arrays, access.array_id))
            and (not self.owners or access.owner is None or _matches_name(self.owners, access.owner))
            and (not self.resources or access.resource is None or _matches_name(self.resources, access.resource))
        )


@dataclass(frozen=True, slots=True)
class Policy:
    """One version of a policy; `version` 0 is built in. Times are seconds since 1970."""

    name: str
    version: int
    rules: tuple[Rule, ...]
    created_at: int = 0
    creator: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether an access is allowed, and by which policy."""

    allowed: bool
    policy: str = ""


def decide(policies: Iterable[Policy], access: Access) -> Decision:
    """Decide an access: the first policy with a rule that allows it, or denied."""
    for policy in policies:
        if any(rule.allows(access) for rule in policy.rules):
            return Decision(allowed=True, policy=policy.name)
    return Decision(allowed=False)


BUILT_IN_POLICY = Policy(
    BUILT_IN,
    0,
    (
        Rule(("operators/admin/*",), ("*",)),
        Rule(("operators/operator/*",), (MANAGE, LIST)),
        Rule(("operators/auditor/*",), (LIST,)),
        Rule(("members/*",), (LAUNCH,), Membership.MEMBER_OF_ARRAY),
        Rule(("members/*",), (MANAGE, LIST), Membership.PRIMARY_OF_ARRAY),
    ),
)
"""In force until a policy of its name is applied: people manage, members launch, and a primary manages its array's cache."""


def in_force(applied: Sequence[Policy]) -> tuple[Policy, ...]:
    """The policies that decide: those applied, and the built-in one unless it has been replaced."""
    replaced = any(policy.name == BUILT_IN for policy in applied)
    return tuple(applied) if replaced else (BUILT_IN_POLICY, *applied)


def parse_read_purpose(text: str) -> str:
    """Check the purpose that a caller gives for reading a secret. Raises `FieldInvalid`."""
    if not _NAME.match(text):
        raise _invalid("purpose", "1-63 lower-case letters, digits and hyphens are required")
    if text in RESERVED_PURPOSES:
        raise _invalid(
            "purpose", f"{text} is reserved for calls that give no purpose; name what the secret is read for"
        )
    return text


def check_policy(policy: Policy) -> None:
    """Raise `FieldInvalid` for a policy that is not well-formed."""
    if not _NAME.match(policy.name):
        raise _invalid("policy.name", "policies/ and 1-63 lower-case letters, digits and hyphens are required")
    if len(policy.rules) > MOST_RULES:
        raise _invalid("policy.rules", f"at most {MOST_RULES}")
    for number, rule in enumerate(policy.rules):
        where = f"policy.rules[{number}]"
        for name in ("callers", "purposes"):
            if not getattr(rule, name):
                raise _invalid(f"{where}.{name}", "at least one pattern is required; `*` stands for all")
        for name in ("callers", "purposes", "arrays", "owners", "resources"):
            patterns = getattr(rule, name)
            if len(patterns) > MOST_PATTERNS:
                raise _invalid(f"{where}.{name}", f"at most {MOST_PATTERNS} patterns")
            for pattern in patterns:
                if len(pattern) > MOST_CHARACTERS or not pattern.isprintable():
                    raise _invalid(f"{where}.{name}", f"at most {MOST_CHARACTERS} printable characters")
        if any("://" in pattern for pattern in rule.callers):
            raise _invalid(f"{where}.callers", "patterns begin behind the trust domain, such as operators/admin/*")


def glob(pattern: str, text: str) -> bool:
    """Whether a text matches a pattern in which `*` stands for any characters; takes linear time."""
    first, *rest = pattern.split("*")
    if not rest:
        return pattern == text
    *middle, last = rest
    if len(text) < len(first) + len(last) or not text.startswith(first) or not text.endswith(last):
        return False
    at, end = len(first), len(text) - len(last)
    for part in middle:
        found = text.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True


def _matches(patterns: tuple[str, ...], text: str) -> bool:
    return any(glob(pattern, text) for pattern in patterns)


def _matches_name(patterns: tuple[str, ...], text: str) -> bool:
    """Names of owners and resources are the same in any case."""
    return _matches(tuple(pattern.casefold() for pattern in patterns), text.casefold())


def _invalid(name: str, why: str) -> FieldInvalid:
    return FieldInvalid(f"{name}: {why}", violations=[Violation(name, why)])
