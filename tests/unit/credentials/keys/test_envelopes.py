"""Envelope encryption: committed vectors, and that a value opens at its own place only."""

import json
import os
import runpy
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from keyreeve.plaintext import Plaintext
from keyreeve_credentials.keys.envelope import DoesNotOpen, Place, Sealed, open_fields, seal_fields

VECTORS = Path(__file__).parents[3] / "vectors"
KEK = AESGCM(bytes(32))
PLACE = Place("example.test", "sales", "0" * 32, "anonymous", ".../_wns/INDIGO", 3)
VALUES = {"user_name": Plaintext.of("bill"), "password": Plaintext.of("s3cret")}


def vectors() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((VECTORS / "vault.json").read_text())["vectors"]
    return found


@pytest.mark.parametrize("vector", vectors(), ids=lambda vector: str(vector["kek_id"])[-1])
def test_values_are_sealed_as_the_protocol_says(vector: dict[str, Any]) -> None:
    place = Place(**{field.name: vector[field.name] for field in fields(Place)})
    drawn = iter(bytes.fromhex(each) for each in vector["random"])
    values = {name: Plaintext.of(text) for name, text in vector["fields"].items()}
    kek = AESGCM(bytes.fromhex(vector["kek"]))
    sealed = seal_fields(kek, vector["kek_id"], place, values, lambda _count: next(drawn))
    assert sealed.wrapped_key.hex() == vector["wrapped_key"]
    assert {name: value.hex() for name, value in sealed.fields.items()} == vector["sealed"]
    assert place.wrap_data(vector["kek_id"]).hex() == vector["wrap_data"]
    for name, associated in vector["associated_data"].items():
        assert place.associated_data(name, vector["kek_id"]).hex() == associated
    assert open_fields(kek, place, sealed) == values


def test_the_vectors_are_what_their_generator_makes() -> None:
    assert (VECTORS / "vault.json").read_text() == runpy.run_path(str(VECTORS / "make_vault.py"))["vectors"]()


def test_each_write_has_its_own_data_key() -> None:
    first, second = (seal_fields(KEK, "k", PLACE, VALUES, os.urandom) for _ in range(2))
    assert first.wrapped_key != second.wrapped_key
    with pytest.raises(DoesNotOpen):
        open_fields(KEK, PLACE, replace(first, wrapped_key=second.wrapped_key))


@pytest.mark.parametrize("name", [field.name for field in fields(Place)])
def test_a_value_opens_at_no_place_that_differs_in_anything(name: str) -> None:
    sealed = seal_fields(KEK, "k", PLACE, VALUES, os.urandom)
    other = 4 if name == "version" else "other"
    with pytest.raises(DoesNotOpen):
        open_fields(KEK, replace(PLACE, **{name: other}), sealed)


def test_fields_are_not_exchanged_and_the_key_is_bound() -> None:
    sealed = seal_fields(KEK, "k", PLACE, VALUES, os.urandom)
    exchanged = {"user_name": sealed.fields["password"], "password": sealed.fields["user_name"]}
    for changed in (replace(sealed, fields=exchanged), replace(sealed, kek_id="l")):
        with pytest.raises(DoesNotOpen):
            open_fields(KEK, PLACE, changed)


@pytest.mark.parametrize("cut", [b"", b"\x00" * 5, b"\x00" * 12, b"\x00" * 40])
def test_bytes_that_are_no_sealed_value_do_not_open(cut: bytes) -> None:
    sealed = seal_fields(KEK, "k", PLACE, VALUES, os.urandom)
    for changed in (replace(sealed, wrapped_key=cut), replace(sealed, fields={**sealed.fields, "password": cut})):
        with pytest.raises(DoesNotOpen) as raised:
            open_fields(KEK, PLACE, changed)
        assert "s3cret" not in str(raised.value)


def test_a_sealed_value_does_not_show_its_bytes() -> None:
    assert repr(Sealed("k", b"abc", {"a": b"def"})) == "Sealed(kek_id='k')"
