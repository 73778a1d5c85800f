"""step-ca 0.30 with its JWK provisioner (a one-time token in each request) and its Badger database.

Badger writes each commit through to disk by default. A token can be used once, so a run's tokens are made before it.
"""

import base64
import datetime
import itertools
import json
import os
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.serialization import Encoding

from keyreeve_bench import corpus
from keyreeve_bench.baselines.authority import make_authority
from keyreeve_bench.baselines.baseline import Baseline, free_port, program, serve

_PROVISIONER = "bench"
_TOKEN_SECONDS = 3600
_MOST_PER_SECOND = 4000
"""Tokens made for each second of a run: more than this server has been measured to answer."""


async def start(directory: Path, csrs: Sequence[bytes], stack: AsyncExitStack) -> Baseline:
    """Start step-ca in a directory. Raises `keyreeve.errors.StartFailed`."""
    command = program("step-ca")
    make_authority(directory, datetime.datetime.now(datetime.UTC))
    key = ec.generate_private_key(ec.SECP256R1())
    port = free_port()
    config = {
        "root": str(directory / "root.pem"),
        "crt": str(directory / "ca.pem"),
        "key": str(directory / "ca.key"),
        "address": f"127.0.0.1:{port}",
        "dnsNames": ["localhost"],
        "logger": {"format": "text", "level": "error"},
        "db": {"type": "badgerv2", "dataSource": str(directory / "db")},
        "authority": {
            "claims": {"maxTLSCertDuration": "2400h", "defaultTLSCertDuration": "2160h"},
            "provisioners": [{"type": "JWK", "name": _PROVISIONER, "key": _public_jwk(key)}],
        },
    }
    (directory / "ca.json").write_text(json.dumps(config))
    await serve([command, str(directory / "ca.json")], directory, port, stack)
    orders = directory / "orders.json"
    orders.write_text(
        json.dumps(
            {
                "port": port,
                "path": "/1.0/sign",
                "success": "BEGIN CERTIFICATE",
                "roots": str(directory / "root.pem"),
                "certificate": str(directory / "client.pem"),
                "key": str(directory / "client.key"),
            }
        )
    )
    requests = directory / "requests"
    make = _body_maker(csrs, key, f"https://localhost:{port}/1.0/sign")

    def prepare(seconds: float) -> None:
        now = int(time.time())
        corpus.save(requests, [make(now) for _ in range(int(seconds * _MOST_PER_SECOND))])

    return Baseline(
        "mutual TLS, one-time tokens made beforehand, Badger with synchronous writes", orders, requests, prepare
    )


def _body_maker(csrs: Sequence[bytes], key: ec.EllipticCurvePrivateKey, audience: str) -> Callable[[int], bytes]:
    """Make a source of requests, each with its own token."""
    turn = itertools.cycle([(_pem(csr), _names(csr)) for csr in csrs])
    header = _base64(json.dumps({"alg": "ES256", "typ": "JWT", "kid": _PROVISIONER}).encode())

    def make(now: int) -> bytes:
        pem, names = next(turn)
        claims = {
            "iss": _PROVISIONER,
            "aud": audience,
            "sub": names[0],
            "sans": names,
            "iat": now,
            "nbf": now - 60,
            "exp": now + _TOKEN_SECONDS,
            "jti": os.urandom(16).hex(),
        }
        signed = f"{header}.{_base64(json.dumps(claims).encode())}"
        r, s = utils.decode_dss_signature(key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        token = f"{signed}.{_base64(r.to_bytes(32) + s.to_bytes(32))}"  # RFC 7518, 3.4
        return json.dumps({"csr": pem, "ott": token}).encode()

    return make


def _pem(csr: bytes) -> str:
    return x509.load_der_x509_csr(csr).public_bytes(Encoding.PEM).decode()


def _names(csr: bytes) -> list[str]:
    extension = x509.load_der_x509_csr(csr).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return extension.value.get_values_for_type(x509.DNSName)


def _public_jwk(key: ec.EllipticCurvePrivateKey) -> dict[str, str]:
    numbers = key.public_key().public_numbers()
    x, y = (_base64(number.to_bytes(32)) for number in (numbers.x, numbers.y))
    return {"use": "sig", "kty": "EC", "kid": _PROVISIONER, "crv": "P-256", "alg": "ES256", "x": x, "y": y}


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
