"""Profile documents: YAML to a checked `Profile`, and the canonical form that the ledger pins by hash.

Every key is described in docs/profiles.md.
"""

import hashlib
import json
import re
from collections.abc import Hashable, Iterator
from datetime import timedelta
from difflib import get_close_matches
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    StrictBool,
    StrictInt,
    StrictStr,
    ValidationError,
)

from keyreeve.errors import ProfileInvalid, Violation
from keyreeve.identity import Role
from keyreeve.values import Hierarchy
from keyreeve_ca.profiles.profile import (
    CommonName,
    DnsRule,
    EmailRule,
    ExtendedKeyUsage,
    IpRule,
    KeyUsage,
    Profile,
    Requests,
    SubjectAttribute,
    UriRule,
)
from keyreeve_ca.profiles.soundness import problems_with_profile
from keyreeve_chassis.keys.key_types import KeyType
from keyreeve_chassis.settings.strict_yaml import YamlRefused, read_strict_yaml

MAX_DOCUMENT_BYTES = 64 * 1024
MAX_NAMES_OF_A_TYPE = 100

_UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_LIFETIME = re.compile(r"([1-9][0-9]{0,8})([dhms])")


def _read_lifetime(value: object) -> timedelta:
    found = _LIFETIME.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError("a lifetime is a whole number and a unit, such as 90d, 12h, 30m or 45s")
    return timedelta(seconds=int(found[1]) * _UNITS[found[2]])


def _write_lifetime(value: timedelta) -> str:
    seconds = int(value.total_seconds())
    unit, size = next((unit, size) for unit, size in _UNITS.items() if seconds % size == 0)
    return f"{seconds // size}{unit}"


def _read_network(value: object) -> IPv4Network | IPv6Network:
    try:
        network = ip_network(value) if isinstance(value, str) else None
    except ValueError as error:
        raise ValueError(f"not a network: {error}") from None
    if network is None or str(network) != value:
        raise ValueError(f"a network is written like {network or '10.0.0.0/8'}")
    return network


def _without_duplicates(values: list[Hashable]) -> list[Hashable]:
    if len(set(values)) != len(values):
        raise ValueError("an entry stands twice")
    return values


def _printable(value: str) -> str:
    if not value.isprintable():
        raise ValueError("it holds a line break or another character that cannot be printed")
    return value


_Lifetime = Annotated[timedelta, BeforeValidator(_read_lifetime), PlainSerializer(_write_lifetime)]
_Network = Annotated[IPv4Network | IPv6Network, BeforeValidator(_read_network), PlainSerializer(str)]
_Once = AfterValidator(_without_duplicates)
_Some = Field(min_length=1, max_length=64)
_Maximum = Annotated[StrictInt, Field(ge=1, le=MAX_NAMES_OF_A_TYPE)]
_Pattern = Annotated[StrictStr, Field(min_length=1, max_length=512)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LifetimeSection(_Section):
    """`lifetime`."""

    default: _Lifetime
    maximum: _Lifetime
    backdate: _Lifetime = timedelta(minutes=5)


class SubjectSection(_Section):
    """`subject`."""

    common_name: CommonName = CommonName.FORBIDDEN
    common_names: Annotated[list[_Pattern], Field(max_length=64), _Once] = []
    keep: Annotated[list[SubjectAttribute], Field(max_length=7), _Once] = []
    fixed: dict[SubjectAttribute, Annotated[StrictStr, Field(min_length=1, max_length=255)]] = {}


class DnsSection(_Section):
    """`names.dns`."""

    maximum: _Maximum
    patterns: Annotated[list[_Pattern], _Some, _Once]
    wildcards: StrictBool = False


class UriSection(_Section):
    """`names.uri`."""

    maximum: _Maximum
    templates: Annotated[list[_Pattern], _Some, _Once]


class IpSection(_Section):
    """`names.ip`."""

    maximum: _Maximum
    networks: Annotated[list[_Network], _Some, _Once]


class EmailSection(_Section):
    """`names.email`."""

    maximum: _Maximum
    domains: Annotated[list[_Pattern], _Some, _Once]


class NamesSection(_Section):
    """`names`."""

    minimum: Annotated[StrictInt, Field(ge=1, le=4 * MAX_NAMES_OF_A_TYPE)] = 1
    dns: DnsSection | None = None
    uri: UriSection | None = None
    ip: IpSection | None = None
    email: EmailSection | None = None


class UsageSection(_Section):
    """`usage`."""

    key: Annotated[list[KeyUsage], _Some, _Once] = [KeyUsage.DIGITAL_SIGNATURE]
    extended: Annotated[list[ExtendedKeyUsage], _Some, _Once]


class ProfileDocument(_Section):
    """The whole document."""

    description: Annotated[StrictStr, Field(min_length=1, max_length=500), AfterValidator(_printable)]
    hierarchy: Hierarchy
    requesters: Annotated[list[Role], _Some, _Once]
    requests: Requests = Requests.LENIENT
    keys: Annotated[list[KeyType], _Some, _Once]
    lifetime: LifetimeSection
    subject: SubjectSection = SubjectSection()
    names: NamesSection
    usage: UsageSection
    one_identity_per_key: StrictBool = False
    may_use_reserved_names: StrictBool = False


def read_profile(document_text: str, trust_domain: str, *, builtin: bool = False) -> tuple[str, bytes, Profile]:
    """Read a YAML or JSON document; return canonical JSON, its SHA-256 hash, and the profile.

    Documents of the same meaning have the same canonical form. Only a `builtin` document may use reserved names. Raises
    one `ProfileInvalid` with a violation per problem; its field is the path of the key.
    """
    if len(document_text.encode("utf-8", "replace")) > MAX_DOCUMENT_BYTES:
        raise _invalid([Violation("document", f"it is longer than {MAX_DOCUMENT_BYTES} bytes")])
    try:
        values = read_strict_yaml(document_text)
    except YamlRefused as error:
        raise _invalid([Violation("document", str(error))]) from None
    if not isinstance(values, dict):
        raise _invalid([Violation("document", "it is not a mapping of keys to values")])
    try:
        document = ProfileDocument.model_validate(values)
    except ValidationError as error:
        raise _invalid(list(_violations(error))) from None
    profile = _profile(document)
    problems = list(problems_with_profile(profile, trust_domain, builtin=builtin))
    if problems:
        raise _invalid(problems)
    canonical = _canonical(document)
    return canonical, hashlib.sha256(canonical.encode()).digest(), profile


def profile_from_canonical(canonical: str) -> Profile:
    """Return the profile of canonical JSON that `read_profile` made and checked."""
    values = json.loads(canonical)
    if "tree" in values:  # documents stored before migration 0012; their bytes are pinned by their hash
        values["hierarchy"] = values.pop("tree")
    return _profile(ProfileDocument.model_validate(values))


def _canonical(document: ProfileDocument) -> str:
    values = document.model_dump(mode="json", exclude_none=True)
    # Keys that are younger than stored documents are left out at their default: equal meaning keeps its hash.
    if document.requests is Requests.LENIENT:
        del values["requests"]
    for key in ("common_names", "keep", "fixed"):
        if not values["subject"][key]:
            del values["subject"][key]
    return json.dumps(_sorted_lists(values), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _sorted_lists(value: object) -> object:
    """Sort every list: each is a set, whose order has no meaning."""
    if isinstance(value, dict):
        return {key: _sorted_lists(inner) for key, inner in value.items()}
    return sorted(value) if isinstance(value, list) else value


def _profile(document: ProfileDocument) -> Profile:
    names = document.names
    return Profile(
        description=document.description,
        hierarchy=document.hierarchy,
        requesters=frozenset(document.requesters),
        keys=frozenset(document.keys),
        default_lifetime=document.lifetime.default,
        maximum_lifetime=document.lifetime.maximum,
        backdate=document.lifetime.backdate,
        common_name=document.subject.common_name,
        requests=document.requests,
        common_names=tuple(sorted(document.subject.common_names)),
        kept_attributes=frozenset(document.subject.keep),
        fixed_attributes=tuple((a, document.subject.fixed[a]) for a in SubjectAttribute if a in document.subject.fixed),
        dns=DnsRule(names.dns.maximum, tuple(sorted(names.dns.patterns)), names.dns.wildcards) if names.dns else None,
        uri=UriRule(names.uri.maximum, tuple(sorted(names.uri.templates))) if names.uri else None,
        ip=IpRule(names.ip.maximum, tuple(sorted(names.ip.networks, key=str))) if names.ip else None,
        email=EmailRule(names.email.maximum, tuple(sorted(names.email.domains))) if names.email else None,
        minimum_names=names.minimum,
        key_usage=frozenset(document.usage.key),
        extended_key_usage=frozenset(document.usage.extended),
        one_identity_per_key=document.one_identity_per_key,
        may_use_reserved_names=document.may_use_reserved_names,
    )


def _invalid(problems: list[Violation]) -> ProfileInvalid:
    first = problems[0]
    others = f" ({len(problems)} problems in all)" if len(problems) > 1 else ""
    return ProfileInvalid(f"{first.field}: {first.description}{others}", violations=problems)


def _violations(error: ValidationError) -> Iterator[Violation]:
    for problem in error.errors(include_url=False, include_context=False, include_input=False):
        path = problem["loc"]
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            message = _unknown_key(path)
        elif problem["type"] == "missing":
            message = "the key is missing"
        yield Violation(_field(path), message)


def _field(path: tuple[int | str, ...]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")


def _unknown_key(path: tuple[int | str, ...]) -> str:
    keys = _keys(path[:-1])
    nearest = get_close_matches(str(path[-1]), keys, n=1, cutoff=0)
    return f"there is no such key; did you mean '{nearest[0]}'? The keys here are {', '.join(keys)}"


def _keys(path: tuple[int | str, ...]) -> list[str]:
    section: type[BaseModel] = ProfileDocument
    for part in path:
        section = next(inner for name, inner in sections(section) if name == part)
    return list(section.model_fields)


def sections(section: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
    """Return the keys of a section that hold subsections, with their models."""
    for name, info in section.model_fields.items():
        kinds = getattr(info.annotation, "__args__", (info.annotation,))
        for kind in kinds:
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield name, kind
