"""Names of owners and resources, by the grammar."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyreeve.errors import FieldInvalid
from keyreeve_credentials.entries.names import fold_pattern, parse_owner, parse_resource


@pytest.mark.parametrize(
    ("given_text", "stored"),
    [
        ("o=Indigo Insurance/cn=Bill Orange", ".../_ens/o=Indigo Insurance/cn=Bill Orange"),
        (".../_ens/o=Indigo/ou=IT/cn=Bill", ".../_ens/o=Indigo/ou=IT/cn=Bill"),
        (
            ".../_service/sco/tta/ldapcache/cn=Bill,ou=IT,o=Indigo",
            ".../_service/sco/tta/ldapcache/cn=Bill,ou=IT,o=Indigo",
        ),
        (".../_user/o=organization/cn=Indigo Jones", ".../_user/o=organization/cn=Indigo Jones"),
        (".../_wns/INDIGO/bill", ".../_wns/INDIGO/bill"),
        ("anonymous", "anonymous"),
        ("ldap", "ldap"),
    ],
)
def test_owners_of_every_form_are_accepted_and_kept_as_written(given_text: str, stored: str) -> None:
    assert parse_owner(given_text).text == stored


@pytest.mark.parametrize(
    "resource", [".../_dns/prague.example.com", ".../_wns/INDIGO", "o=Indigo/cn=prague", ".../_wns/indigo.local"]
)
def test_resources_of_every_form_are_accepted(resource: str) -> None:
    assert parse_resource(resource).text.endswith(resource)
    assert parse_resource("").text == ""


def test_names_that_differ_in_case_alone_are_the_same() -> None:
    assert parse_owner("o=Indigo/cn=BILL").key == parse_owner(".../_ens/O=indigo/CN=bill").key


@pytest.mark.parametrize(
    "owner",
    [
        "",
        "bill",
        "cn=Bill",
        "o=",
        "o=Indigo/",
        "o=Indigo//cn=Bill",
        "o=Indigo/cn= Bill",
        "o=Indigo/cn=Bill*",
        "o=Indigo/cn=Bill\n",
        "o=Indigo/cn=Bi\u0000ll",
        "o=Indigo/cn=Jo\u0308rg",
        "/o=Indigo/cn=Bill",
        ".../_dns/prague.example.com",
        ".../_ens/",
        ".../_other/o=Indigo",
        ".../_service/sco/tta/ldapcache/cn=Bill, ou=IT",
        ".../_wns/",
        ".../_wns/IN\\DIGO",
        ".../_user/a//b",
        "Anonymous",
        "o=" + "x" * 600,
    ],
)
def test_everything_else_is_refused_not_corrected(owner: str) -> None:
    with pytest.raises(FieldInvalid) as refused:
        parse_owner(owner)
    assert refused.value.violations[0].field == "owner"


@pytest.mark.parametrize(
    "resource", [".../_dns/", ".../_dns/-a", ".../_dns/a..b", ".../_dns/a/b", ".../_user/bill", "ldap", "anonymous"]
)
def test_a_resource_is_a_server_or_a_domain(resource: str) -> None:
    with pytest.raises(FieldInvalid):
        parse_resource(resource)


@given(st.text(max_size=40))
def test_what_is_accepted_is_its_own_name(text: str) -> None:
    for parse in (parse_owner, parse_resource):
        try:
            name = parse(text)
        except FieldInvalid:
            continue
        assert parse(name.text) == name
        assert "*" not in name.text
        assert name.text.isprintable()


def test_a_pattern_is_folded_and_has_no_control_characters() -> None:
    assert fold_pattern("*Bill*", "owner") == "*bill*"
    with pytest.raises(FieldInvalid):
        fold_pattern("a\x00", "owner")
