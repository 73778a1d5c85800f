"""Tokens as text and the authenticated bytes: independent vectors, and detection of changes."""

import base64
import json
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyreeve.enrollment_token import EnrollmentKeys, EnrollmentToken, Transcript, is_address
from keyreeve.errors import TokenMalformed
from keyreeve.identity import SpiffeId

DIRECTORY = Path(__file__).parents[2] / "vectors"
VECTORS = json.loads((DIRECTORY / "enrollment.json").read_text())["vectors"]
vectors = pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["identity"])


def token_of(vector: dict[str, Any]) -> EnrollmentToken:
    return EnrollmentToken(
        bytes.fromhex(vector["id"]),
        bytes.fromhex(vector["secret"]),
        bytes.fromhex(vector["root_sha256"]),
        vector["expires"],
        SpiffeId.parse(vector["identity"]),
        vector["address"],
    )


def transcript_of(vector: dict[str, Any]) -> Transcript:
    return Transcript(
        trust_domain=vector["trust_domain"],
        root_sha256=bytes.fromhex(vector["root_sha256"]),
        server_name=vector["server_name"],
        token_id=bytes.fromhex(vector["id"]),
        client_nonce=bytes.fromhex(vector["n_c"]),
        client_time=vector["t_c"],
        release=vector["release"],
        server_nonce=bytes.fromhex(vector["n_s"]),
        server_time=vector["t_s"],
        name=vector["identity"],
        trust_root=bytes.fromhex(vector["trust_root"]),
    )


def test_the_vectors_are_what_their_generator_makes() -> None:
    subprocess.run([sys.executable, DIRECTORY / "make_enrollment.py", "--check"], check=True)


@vectors
def test_a_token_has_the_bytes_of_the_vector(vector: dict[str, Any]) -> None:
    token = token_of(vector)
    assert token.text() == vector["token"]
    assert EnrollmentToken.parse(f" {vector['token']}\n") == token
    assert token.server_name == vector["server_name"]


@vectors
def test_keys_and_proofs_have_the_bytes_of_the_vector(vector: dict[str, Any]) -> None:
    keys = EnrollmentKeys.of(bytes.fromhex(vector["secret"]), bytes.fromhex(vector["id"]))
    assert [one.hex() for one in (keys.server, keys.client, keys.result)] == [vector[k] for k in ("k_s", "k_c", "k_r")]
    assert EnrollmentKeys.read(keys.pack()) == keys
    transcript, csr = transcript_of(vector), bytes.fromhex(vector["csr"])
    assert transcript.t1().hex() == vector["t1"]
    server_mac = transcript.server_mac(keys)
    assert server_mac.hex() == vector["mac_s"]
    client_mac = transcript.client_mac(keys, server_mac, csr)
    assert client_mac.hex() == vector["mac_c"]
    chain = [bytes.fromhex(one) for one in vector["chain"]]
    assert transcript.result_mac(keys, client_mac, chain).hex() == vector["mac_r"]
    roots = [bytes.fromhex(one) for one in vector["roots"]]
    assert transcript.roots_mac(keys, client_mac, roots).hex() == vector["mac_roots"]


@pytest.mark.parametrize("field", [field.name for field in fields(Transcript)])
def test_every_field_of_the_transcript_is_authenticated(field: str) -> None:
    transcript = transcript_of(VECTORS[0])
    was = getattr(transcript, field)
    other = was + 1 if isinstance(was, int) else was + was[:1]
    assert replace(transcript, **{field: other}).t1() != transcript.t1()


def test_a_text_that_moves_from_one_field_to_the_next_changes_the_transcript() -> None:
    transcript = transcript_of(VECTORS[0])
    moved = replace(transcript, trust_domain=transcript.trust_domain[:-1], server_name="t" + transcript.server_name)
    assert moved.t1() != transcript.t1()


@given(at=st.integers(0), flip=st.integers(1, 255))
def test_a_token_with_one_octet_changed_is_refused_and_not_shown(at: int, flip: int) -> None:
    text = VECTORS[0]["token"].removeprefix("krt1_")
    raw = bytearray(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    raw[at % len(raw)] ^= flip
    changed = "krt1_" + base64.urlsafe_b64encode(raw).decode().rstrip("=")
    with pytest.raises(TokenMalformed) as caught:
        EnrollmentToken.parse(changed)
    assert changed[5:] not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "krt1_",
        "krt2_AAAA",
        VECTORS[0]["token"][:-1],
        VECTORS[0]["token"] + "A",
        VECTORS[0]["token"] + "=",
        VECTORS[0]["token"].replace("krt1_", ""),
        VECTORS[0]["token"].swapcase(),
        "krt1_" + "A" * 10_000,
        "krt1_\u00e9",
    ],
)
def test_what_is_not_a_whole_token_is_refused(text: str) -> None:
    with pytest.raises(TokenMalformed):
        EnrollmentToken.parse(text)


@given(st.text(max_size=300))
def test_any_text_is_a_token_or_refused(text: str) -> None:
    with pytest.raises(TokenMalformed):
        EnrollmentToken.parse("krt1_" + text)


def test_a_token_does_not_print_its_secret() -> None:
    token = token_of(VECTORS[0])
    assert token.secret.hex() not in repr(token)
    assert repr(token.secret) not in repr(token)
    keys = EnrollmentKeys.of(token.secret, token.token_id)
    assert repr(keys) == "EnrollmentKeys()"


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("ca.example.test:7443", True),
        ("[2001:db8::1]:443", True),
        ("2001:db8::1:443", False),
        ("ca:0", False),
        ("ca:65536", False),
        ("ca", False),
        (":1", False),
        ("ca\n:1", False),
    ],
)
def test_an_address_is_a_host_and_a_port(text: str, good: bool) -> None:
    assert is_address(text) is good
