"""Name patterns: matches, variables and invalid patterns."""

import pytest

from keyreeve_ca.profiles.patterns import dns_pattern, problem_with_dns_pattern, problem_with_uri_template, uri_template

TD = "corp.example.test"


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("web.example.test", "web.example.test", {}),
        ("web.example.test", "webxexample.test", None),
        ("web.example.test", "a.web.example.test", None),
        ("*.example.test", "web.example.test", {}),
        ("*.example.test", "*.example.test", {}),
        ("*.example.test", "a.web.example.test", None),
        ("*.example.test", "example.test", None),
        ("**.example.test", "a.b.c.example.test", {}),
        ("**.example.test", "*.b.example.test", {}),
        ("**.example.test", "example.test", None),
        ("**", "localhost", {}),
        ("a.**.z", "a.b.c.z", {}),
        ("{host}.{trust_domain}", f"web.{TD}", {"host": "web"}),
        ("{host}.{trust_domain}", "web.corpxexample.test", None),
        ("{host}.{trust_domain}", f"*.{TD}", None),
        ("{host}.{trust_domain}", f"a.b.{TD}", None),
        ("{a}.{b}.{a}", "x.y.x", {"a": "x", "b": "y"}),
        ("{a}.{b}.{a}", "x.y.z", None),
    ],
)
def test_a_dns_pattern_matches_whole_labels(pattern, name, expected):
    assert problem_with_dns_pattern(pattern) is None
    assert dns_pattern(pattern, TD).match(name) == expected


@pytest.mark.parametrize(
    ("template", "uri", "expected"),
    [
        ("spiffe://{trust_domain}/a/{b}", f"spiffe://{TD}/a/x", {"b": "x"}),
        ("spiffe://{trust_domain}/a/{b}", f"spiffe://{TD}/a/x/y", None),
        ("spiffe://{trust_domain}/a/{b}", "spiffe://corpxexample.test/a/x", None),
        ("spiffe://{trust_domain}/a/{b}", f"spiffe://{TD}/A/x", None),
        ("spiffe://{trust_domain}/{b*}", f"spiffe://{TD}/a/x", {"b": "a/x"}),
        ("spiffe://{trust_domain}/{b*}", f"spiffe://{TD}", None),
        ("https://**/{path*}", "https://a.b/c/d", {"path": "c/d"}),
        ("https://**", "https://a.b", {}),
        ("https://**", "https://a.b/c", None),
        ("https://*.test/{a}/{b*}/z", "https://x.test/1/2/3/z", {"a": "1", "b": "2/3"}),
        ("a.b://h", "axb://h", None),
        ("https://{site}.test/{site}", "https://x.test/x", {"site": "x"}),
        ("https://{site}.test/{site}", "https://x.test/y", None),
    ],
)
def test_a_uri_template_matches_whole_segments(template, uri, expected):
    assert problem_with_uri_template(template) is None
    assert uri_template(template, TD).match(uri) == expected


@pytest.mark.parametrize(
    "pattern",
    [
        "",
        ".",
        "a..b",
        "a.",
        "**.**",
        "w*.test",
        "a.*b",
        "{a*}.test",
        "{A}.test",
        "x{a}.test",
        "*.1",
        "A.test",
        "a b",
        "{}",
        "{a",
    ],
)
def test_a_text_that_is_no_dns_pattern_is_refused(pattern):
    assert problem_with_dns_pattern(pattern)


@pytest.mark.parametrize(
    "template",
    [
        "",
        "https",
        "https:/x",
        "HTTPS://x",
        "{scheme}://x",
        "https://",
        "https://x/",
        "https://x//y",
        "https://x/../y",
        "https://x/a{b}",
        "https://x/{a*}/{b*}",
        "https://x/*",
        "https://x/**",
        "https://x/{trust_domain}",
        "https://x:443/y",
        "https://u@x/y",
        "https://x/y?z",
        "https://x/%61",
    ],
)
def test_a_text_that_is_no_uri_template_is_refused(template):
    assert problem_with_uri_template(template)
