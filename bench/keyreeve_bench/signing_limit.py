"""Signing limit: how often all cores together can check a request and sign, with the library that the CA uses.

Each step is what no CA can leave out: parse the request, verify its signature, sign 600 octets (a TBSCertificate) with
the authority's type of key. `python -m keyreeve_bench.signing_limit` is one of the processes.
"""

import itertools
import os
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from keyreeve.keys import make_key
from keyreeve.values import KeyType
from keyreeve_bench import children, corpus
from keyreeve_bench.children import Document, Parent

_TBS = os.urandom(600)
_LOOK_AT_CLOCK = 16


async def measure_signing_limit(corpus_file: Path, authority_key: KeyType, cores: int, seconds: float) -> float:
    """Measure checks with signatures per second, over one process for each core."""
    orders: list[Document] = [
        {"corpus": str(corpus_file), "key": authority_key.value, "seconds": seconds, "process": number, "of": cores}
        for number in range(cores)
    ]
    async with AsyncExitStack() as stack:
        processes = await children.start_all("keyreeve_bench.signing_limit", orders, stack)
        await children.begin_all(processes)
        rates: list[float] = [result["rate"] for result in await children.results_of(processes)]
    return sum(rates)


def key_type_of(certificate: bytes) -> KeyType:
    """Type of the key in a DER certificate."""
    match x509.load_der_x509_certificate(certificate).public_key():
        case ec.EllipticCurvePublicKey(curve=ec.SECP384R1()):
            return KeyType.P384
        case ed25519.Ed25519PublicKey():
            return KeyType.ED25519
        case rsa.RSAPublicKey(key_size=size):
            return KeyType(f"rsa{size}")
    return KeyType.P256


async def run(orders: dict[str, Any], parent: Parent) -> Document:
    """Check and sign for the ordered time; return the rate."""
    csrs = corpus.load(Path(orders["corpus"]))
    begin = len(csrs) * orders["process"] // orders["of"]
    turn = itertools.cycle(csrs[begin:] + csrs[:begin])
    sign = _signer(KeyType(orders["key"]))
    _check_and_sign(next(turn), sign)
    start = await parent.ready()
    time.sleep(max(0.0, start - time.monotonic()))  # noqa: ASYNC251  # nothing else runs in this process
    start, count = time.monotonic(), 0
    while (spent := time.monotonic() - start) < orders["seconds"]:
        for _ in range(_LOOK_AT_CLOCK):
            _check_and_sign(next(turn), sign)
        count += _LOOK_AT_CLOCK
    return {"rate": count / spent}


def _check_and_sign(csr: bytes, sign: Callable[[bytes], bytes]) -> None:
    if not x509.load_der_x509_csr(csr).is_signature_valid:
        raise ValueError("a request of the corpus has an invalid signature")
    sign(_TBS)


def _signer(key_type: KeyType) -> Callable[[bytes], bytes]:
    match key := make_key(key_type):
        case ec.EllipticCurvePrivateKey():
            algorithm = ec.ECDSA(hashes.SHA384() if key_type is KeyType.P384 else hashes.SHA256())
            return lambda data: key.sign(data, algorithm)
        case rsa.RSAPrivateKey():
            return lambda data: key.sign(data, padding.PKCS1v15(), hashes.SHA256())
        case _:
            return key.sign


if __name__ == "__main__":
    children.serve_parent(run)
