"""LP encoding: fields are separated, decode to the same values, and truncation is detected."""

import pytest
from hypothesis import strategies as st

from keyreeve.length_prefix import length_prefixed, split_fields
from support.both_seeds import for_all


def test_length_prefixes_keep_fields_apart() -> None:
    assert length_prefixed(b"ab", b"", b"c") == b"\0\0\0\2ab\0\0\0\0\0\0\0\1c"
    assert length_prefixed(b"ab", b"c") != length_prefixed(b"a", b"bc")
    assert length_prefixed() == b""


@for_all(fields=st.lists(st.binary(max_size=300), max_size=8))
def test_fields_come_back_as_they_were(fields: list[bytes]) -> None:
    assert split_fields(length_prefixed(*fields)) == fields


@pytest.mark.parametrize("kept", range(1, 7))
def test_a_field_that_is_cut_off_is_noticed(kept: int) -> None:
    with pytest.raises(ValueError, match="cut off"):
        split_fields(length_prefixed(b"abc")[:kept])
