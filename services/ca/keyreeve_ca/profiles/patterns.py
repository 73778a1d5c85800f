"""Patterns of names: what a profile's rules match, and what their variables stand for in a name.

The language is in docs/profiles.md. A pattern is compiled for one trust domain; each name matches it in one way at most,
because no pattern has two parts of open length.
"""

import re
from functools import lru_cache

from keyreeve_ca.requests.name_grammar import dns_problem

TRUST_DOMAIN = "{trust_domain}"
_VARIABLE = re.compile(r"\{([a-z][a-z0-9_]{0,31})(\*?)\}")
_LITERAL_SEGMENT = re.compile(r"[A-Za-z0-9._-]{1,253}")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]{0,31}")


def problem_with_dns_pattern(pattern: str) -> str | None:
    """Return what is wrong with a DNS pattern, or None."""
    labels = pattern.replace(TRUST_DOMAIN, "x").split(".")
    if labels.count("**") > 1:
        return "'**' may stand once"
    for index, label in enumerate(labels):
        variable = _VARIABLE.fullmatch(label)
        if variable and variable[2]:
            return f"'{label}' spans path segments; in a DNS pattern it is '**' that spans labels"
        if variable or label in {"*", "**"}:
            labels[index] = "x"
    problem = dns_problem(".".join(labels))
    return f"it is not made of labels, '*', '**' and {{variables}}: {problem}" if problem else None


def problem_with_uri_template(template: str) -> str | None:
    """Return what is wrong with a URI template, or None."""
    scheme, separator, rest = template.partition("://")
    if not separator or not _SCHEME.fullmatch(scheme):
        return "it does not begin with a lower-case scheme and '://'"
    host, *segments = rest.split("/")
    problem = problem_with_dns_pattern(host)
    if problem:
        return f"its host: {problem}"
    if sum(segment.endswith("*}") for segment in segments) > 1:
        return "a {variable*} may stand once"
    for segment in segments:
        if TRUST_DOMAIN in segment:
            return "{trust_domain} stands in a host only"
        if _VARIABLE.fullmatch(segment):
            continue
        if not _LITERAL_SEGMENT.fullmatch(segment) or segment in {".", ".."}:
            return "a path segment is neither {variable}, {variable*}, nor letters, digits, '.', '-' and '_'"
    return None


class Pattern:
    """A compiled pattern."""

    __slots__ = ("_regex",)

    def __init__(self, regex: str) -> None:
        self._regex = re.compile(regex)

    def match(self, text: str) -> dict[str, str] | None:
        """Return the value of each variable when `text` (accepted by its grammar) matches, else None."""
        found = self._regex.fullmatch(text)
        return None if found is None else found.groupdict()


@lru_cache(maxsize=4096)
def dns_pattern(pattern: str, trust_domain: str) -> Pattern:
    """Compile a checked DNS pattern."""
    return Pattern(_host(pattern, trust_domain, set()))


@lru_cache(maxsize=4096)
def uri_template(template: str, trust_domain: str) -> Pattern:
    """Compile a checked URI template."""
    scheme, _, rest = template.partition("://")
    host, *segments = rest.split("/")
    seen: set[str] = set()
    parts = [re.escape(scheme) + "://" + _host(host, trust_domain, seen)]
    for segment in segments:
        variable = _VARIABLE.fullmatch(segment)
        if variable is None:
            parts.append(re.escape(segment))
        else:
            parts.append(_group(variable[1], "[^/]+(?:/[^/]+)*" if variable[2] else "[^/]+", seen))
    return Pattern("/".join(parts))


def _host(pattern: str, trust_domain: str, seen: set[str]) -> str:
    parts = []
    for label in pattern.split("."):
        variable = _VARIABLE.fullmatch(label)
        if label == TRUST_DOMAIN:
            parts.append(re.escape(trust_domain))
        elif variable:
            parts.append(_group(variable[1], "[^.*]+", seen))
        elif label == "**":
            parts.append(r"[^./]+(?:\.[^./]+)*")
        elif label == "*":
            parts.append("[^./]+")
        else:
            parts.append(re.escape(label))
    return r"\.".join(parts)


def _group(variable: str, regex: str, seen: set[str]) -> str:
    if variable in seen:
        return f"(?P={variable})"
    seen.add(variable)
    return f"(?P<{variable}>{regex})"
