"""The overwrite hazard: a key that is in use is not replaced by accident, and nothing is lost."""

import pytest

from keyreeve.errors import KeyFileExists, KeyFileInUse
from keyreeve_credentials.key_files.file_names import parse_file_name, restorable_name
from keyreeve_credentials.key_files.replacing import replace_files

PAIR = {"web.key", "web.crt", "web.csr"}


def test_new_files_replace_nothing() -> None:
    assert replace_files({"new.key", "new.csr"}, PAIR, {"web.crt"}, replace=False, force=False).kept == {}


def test_an_existing_file_is_not_replaced_unless_asked() -> None:
    with pytest.raises(KeyFileExists):
        replace_files({"web.key", "web.csr"}, PAIR, set(), replace=False, force=False)


@pytest.mark.parametrize("in_use", ["web.key", "web.crt"])
def test_a_key_whose_pair_is_in_use_is_not_replaced_unless_forced(in_use: str) -> None:
    with pytest.raises(KeyFileInUse, match="would not match"):
        replace_files({"web.key", "web.csr"}, PAIR, {in_use}, replace=True, force=False)
    assert replace_files({"web.key", "web.csr"}, PAIR, {in_use}, replace=True, force=True).kept


def test_the_old_pair_is_kept_together_under_a_restorable_name() -> None:
    kept = replace_files({"web.key", "web.csr"}, PAIR, set(), replace=True, force=False).kept
    assert kept == {
        "web.key": "web-replaced-1.key",
        "web.crt": "web-replaced-1.crt",
        "web.csr": "web-replaced-1.csr",
    }


def test_earlier_kept_pairs_are_not_overwritten() -> None:
    existing = PAIR | {"web-replaced-1.crt", "web-replaced-2.key"}
    kept = replace_files({"web.key"}, existing, set(), replace=True, force=False).kept
    assert kept == {"web.key": "web-replaced-3.key", "web.crt": "web-replaced-3.crt"}


def test_a_certificate_is_renewed_under_its_name_while_it_is_in_use() -> None:
    kept = replace_files({"web.crt"}, PAIR, {"web.crt", "web.key"}, replace=True, force=False).kept
    assert kept == {"web.crt": "web-replaced-1.crt"}


def test_the_certificate_of_a_key_is_the_one_of_its_whole_name() -> None:
    existing = {"web.crt", "web.server.key", "web.server.crt"}
    kept = replace_files({"web.server.key"}, existing, {"web.crt"}, replace=True, force=False).kept
    assert kept == {
        "web.server.key": "web.server-replaced-1.key",
        "web.server.crt": "web.server-replaced-1.crt",
    }
    with pytest.raises(KeyFileInUse, match=r"web\.server\.crt"):
        replace_files({"web.server.key"}, existing, {"web.server.crt"}, replace=True, force=False)


@pytest.mark.parametrize(
    "name", ["a" * 124 + ".key", "a" * 128, "a." + "b" * 126, "a." * 63 + "bc", "x.y." + "c" * 110]
)
def test_the_name_of_a_kept_file_is_no_longer_than_any_name(name: str) -> None:
    kept = restorable_name(name, 12345)
    assert parse_file_name(kept) == kept
    assert "-replaced-12345" in kept
