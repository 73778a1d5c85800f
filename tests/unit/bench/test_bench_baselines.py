"""Calls to baselines: HTTP responses, and one-time tokens."""

import asyncio
import base64
import json

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

from keyreeve.errors import StartFailed
from keyreeve.keys import make_csr, make_key
from keyreeve.values import Name
from keyreeve_bench.baselines.baseline import program
from keyreeve_bench.baselines.https import _read
from keyreeve_bench.baselines.step_ca import _body_maker


def reader(data: bytes) -> asyncio.StreamReader:
    stream = asyncio.StreamReader()
    stream.feed_data(data)
    stream.feed_eof()
    return stream


async def test_an_answer_with_a_length_is_read_to_its_end() -> None:
    stream = reader(
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcHTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n"
    )
    assert await _read(stream) == (200, b"abc")
    assert await _read(stream) == (403, b"")


async def test_an_answer_in_chunks_is_put_together() -> None:
    head = b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n"
    stream = reader(head + b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n" + head + b"0\r\n\r\n")
    assert await _read(stream) == (201, b"abcde")
    assert await _read(stream) == (201, b"")


async def test_an_answer_that_is_cut_short_is_an_end_of_file() -> None:
    with pytest.raises(EOFError):
        await _read(reader(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"))


def test_each_request_of_step_ca_has_a_token_of_its_own_for_its_names() -> None:
    csr = make_csr(make_key(), [Name.dns("a.example.test")])
    key = ec.generate_private_key(ec.SECP256R1())
    make = _body_maker([csr], key, "https://localhost:1/1.0/sign")
    tokens = [json.loads(make(1000))["ott"] for _ in range(2)]
    parts = [token.split(".") for token in tokens]
    claims = [json.loads(base64.urlsafe_b64decode(body + "==")) for _, body, _ in parts]
    assert claims[0]["sans"] == ["a.example.test"]
    assert claims[0]["jti"] != claims[1]["jti"]
    for head, body, signature in parts:
        raw = base64.urlsafe_b64decode(signature + "==")
        der = utils.encode_dss_signature(int.from_bytes(raw[:32]), int.from_bytes(raw[32:]))
        key.public_key().verify(der, f"{head}.{body}".encode(), ec.ECDSA(hashes.SHA256()))


def test_a_baseline_that_is_not_on_the_path_is_named_with_what_builds_it() -> None:
    with pytest.raises(StartFailed, match="make bench-baselines"):
        program("no-such-program")
