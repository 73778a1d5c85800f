from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyreeve.errors import FieldInvalid, PageTokenInvalid
from keyreeve_chassis.guard.paging import PageScope, PageSizes, PageTokens

SCOPE = PageScope("spiffe://example.test/operators/admin/ann", "/x.Y/List", b"state=active")
TOKENS = PageTokens(b"k" * 32)


@pytest.mark.parametrize(("asked", "size"), [(0, 50), (1, 1), (1000, 1000), (1001, 1000), (2**31 - 1, 1000)])
def test_a_page_size_is_clamped(asked, size):
    assert PageSizes().clamp(asked) == size


@pytest.mark.parametrize("asked", [-1, -(2**31)])
def test_a_negative_page_size_is_refused(asked):
    with pytest.raises(FieldInvalid) as refused:
        PageSizes().clamp(asked)
    assert refused.value.violations[0].field == "page_size"


@given(position=st.binary(max_size=200))
def test_a_token_gives_its_position_back(position):
    assert TOKENS.read(SCOPE, TOKENS.make(SCOPE, position)) == position


def test_the_empty_token_is_the_first_page():
    assert TOKENS.read(SCOPE, "") is None


@pytest.mark.parametrize(
    "other",
    [
        replace(SCOPE, caller="spiffe://example.test/operators/admin/bob"),
        replace(SCOPE, method="/x.Y/ListOther"),
        replace(SCOPE, filters=b"state=retired"),
        PageScope(SCOPE.caller + "/", SCOPE.method[1:], SCOPE.filters),
    ],
)
def test_a_token_is_good_for_its_caller_method_and_filters_only(other):
    with pytest.raises(PageTokenInvalid):
        TOKENS.read(other, TOKENS.make(SCOPE, b"5"))


def test_a_token_of_another_key_is_refused():
    with pytest.raises(PageTokenInvalid):
        PageTokens(b"j" * 32).read(SCOPE, TOKENS.make(SCOPE, b"5"))


@given(position=st.binary(max_size=20), data=st.data())
def test_no_changed_character_leaves_a_token_valid(position, data):
    token = TOKENS.make(SCOPE, position)
    index = data.draw(st.integers(0, len(token) - 1))
    character = data.draw(st.characters(codec="ascii").filter(lambda one: one != token[index]))
    with pytest.raises(PageTokenInvalid):
        TOKENS.read(SCOPE, token[:index] + character + token[index + 1 :])


@given(token=st.text(min_size=1, max_size=80))
def test_any_other_text_is_refused(token):
    with pytest.raises(PageTokenInvalid):
        TOKENS.read(SCOPE, token)


@pytest.mark.parametrize("suffix", ["=", "==", "\n", " ", "A", "A" * 3000])
def test_a_token_has_one_spelling(suffix):
    with pytest.raises(PageTokenInvalid):
        TOKENS.read(SCOPE, TOKENS.make(SCOPE, b"5") + suffix)


def test_a_short_key_is_refused():
    with pytest.raises(ValueError, match="32"):
        PageTokens(b"short")
