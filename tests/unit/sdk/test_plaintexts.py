"""Secrets in memory: they are not shown by accident."""

import copy
import json
import logging
import pickle

import pytest

from keyreeve.plaintext import Plaintext

SECRET = "canary-7f3a"


def test_a_secret_is_shown_as_stars_everywhere():
    value = Plaintext.of(SECRET)
    shown = f"{value} {value!r} {value!s} {value:>20} {[value]} {{'a': value}}"
    assert SECRET not in shown
    assert str(value) == repr(value) == "***"


def test_a_secret_is_neither_pickled_nor_copied_nor_hashed_nor_made_json():
    value = Plaintext.of(SECRET)
    for act in (pickle.dumps, copy.copy, copy.deepcopy, hash, json.dumps):
        with pytest.raises(TypeError) as raised:
            act(value)
        assert SECRET not in str(raised.value)


def test_secrets_compare_by_value_and_never_with_other_types():
    assert Plaintext.of("a") == Plaintext(b"a")
    assert Plaintext.of("a") != Plaintext.of("b")
    assert Plaintext.of("a") != b"a"
    assert not Plaintext(b"")


def test_a_secret_that_is_no_text_says_so_without_its_bytes():
    with pytest.raises(UnicodeDecodeError) as raised:
        Plaintext(b"\xff" + SECRET.encode()).text()
    assert SECRET not in str(raised.value)
    assert SECRET not in repr(raised.value.object)


def test_a_log_line_with_a_secret_has_stars(caplog: pytest.LogCaptureFixture):
    logging.getLogger("x").error("it is %s", Plaintext.of(SECRET))
    assert "it is ***" in caplog.text
