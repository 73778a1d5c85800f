"""Sample names that match a profile's patterns, for linting its certificates at their limits."""

import re
from collections.abc import Iterator
from itertools import cycle, islice
from typing import TypeVar

from keyreeve.values import Name, NameType
from keyreeve_ca.profiles.profile import Profile

T = TypeVar("T")

_PIECE = re.compile(r"\{[^}]*\}|\*\*|\*")
_LONG_LABEL = "l" * 59
_MAX_DNS_BYTES = 253


def sample_names(profile: Profile, trust_domain: str) -> list[tuple[Name, ...]]:
    """Return lists of names: the fewest that the profile takes, each type at its maximum, then all at once."""
    by_type = [
        list(islice(_unique(names), maximum))
        for maximum, names in (
            (profile.dns.maximum if profile.dns else 0, _dns(profile, trust_domain)),
            (profile.uri.maximum if profile.uri else 0, _uri(profile, trust_domain)),
            (profile.ip.maximum if profile.ip else 0, _ip(profile)),
            (profile.email.maximum if profile.email else 0, _email(profile, trust_domain)),
        )
    ]
    by_type = [names for names in by_type if names]
    one_each = [names[0] for names in by_type]
    rest = [name for names in by_type for name in names[1:]]
    needed = max(profile.minimum_names, 1)
    # A profile that asks for several names means one of each type before it means several of one.
    fewest = (one_each + rest)[:needed]
    lists = [tuple(fewest), *(tuple(names) for names in by_type), tuple(one_each + rest)]
    return list(dict.fromkeys(lists))


def _dns(profile: Profile, trust_domain: str) -> Iterator[Name]:
    if profile.dns is None:
        return
    for number, pattern in _numbered(profile.dns.patterns):
        text = _fill(pattern, trust_domain, f"n{number}", "a.test")
        yield Name(NameType.DNS, text)
        if profile.dns.wildcards and pattern.startswith("*"):
            yield Name(NameType.DNS, _fill(pattern, trust_domain, "*", f"w{number}.test"))
        if "**" in pattern:
            yield Name(NameType.DNS, _fill(pattern, trust_domain, f"n{number}", _long_host(pattern, trust_domain)))


def _uri(profile: Profile, trust_domain: str) -> Iterator[Name]:
    for number, template in _numbered(profile.uri.templates if profile.uri else ()):
        yield Name(NameType.URI, _fill(template, trust_domain, f"n{number}", "host.test"))


def _email(profile: Profile, trust_domain: str) -> Iterator[Name]:
    for number, pattern in _numbered(profile.email.domains if profile.email else ()):
        yield Name(NameType.EMAIL, f"n{number}@{_fill(pattern, trust_domain, 'n', 'mail.test')}")


def _ip(profile: Profile) -> Iterator[Name]:
    for number, network in _numbered(profile.ip.networks if profile.ip else ()):
        # From the middle of the network: the ends of the widest hold nothing but addresses of a special kind.
        offset = (network.num_addresses // 2 + number) % network.num_addresses
        yield Name(NameType.IP, str(network.network_address + offset))


def _numbered(items: tuple[T, ...]) -> Iterator[tuple[int, T]]:
    return enumerate(islice(cycle(items), 400 * len(items)))


def _unique(names: Iterator[Name]) -> Iterator[Name]:
    seen: set[Name] = set()
    for name in names:
        if name not in seen:
            seen.add(name)
            yield name


def _fill(pattern: str, trust_domain: str, label: str, host: str) -> str:
    """Fill every variable part of a pattern: a label, a host where dots are allowed, a path where slashes are."""

    def replace(piece: re.Match[str]) -> str:
        text = piece.group()
        if text == "{trust_domain}":
            return trust_domain
        if text == "**":
            return f"{label}.{host}"
        return f"{label}/{label}" if text.endswith("*}") else label

    return _PIECE.sub(replace, pattern)


def _long_host(pattern: str, trust_domain: str) -> str:
    """Fill a pattern with one `**` to almost the length limit of DNS."""
    room = _MAX_DNS_BYTES - len(_fill(pattern, trust_domain, "n100", "a.test"))
    return ".".join([_LONG_LABEL] * max(room // (len(_LONG_LABEL) + 1), 1)) + ".test"
