"""Requests encoded once, and responses decoded only as far as a benchmark needs.

On a shared machine the client's CPU time is part of the result. A request is encoded beforehand except for its
`request_id`, which is appended as one more field; serial numbers are found in the undecoded response.
"""

import re
from collections.abc import Sequence

from keyreeve import wire
from keyreeve.ca.v1 import certificate_service_pb2 as pb
from keyreeve.values import SignItem

UNARY = "/keyreeve.ca.v1.CertificateService/SignCertificate"
BATCH = "/keyreeve.ca.v1.CertificateService/SignCertificates"

# Field 2 of both requests, length-delimited, 36 octets: the `request_id`.
_REQUEST_ID = b"\x12\x24"
# Field 1 of Certificate, 45 octets: `certificates/` and a serial number. No other field can hold this tag and length
# before that text, except by chance in a signature (2^-120).
_SERIAL = re.compile(rb"\x0a\x2dcertificates/([0-9a-f]{32})")


def method_of(batch: int) -> str:
    """The method for this batch size."""
    return UNARY if batch == 1 else BATCH


def prepare(profile: str, csrs: Sequence[bytes], batch: int) -> list[bytes]:
    """Encode requests without their request ids; a batch holds consecutive items of the corpus."""
    items = [wire.to_item(SignItem(profile, csr)) for csr in csrs]
    if batch == 1:
        return [pb.SignCertificateRequest(item=item).SerializeToString() for item in items]
    turns = max(1, len(items) // batch)
    return [
        pb.SignCertificatesRequest(
            items=[items[(turn * batch + n) % len(items)] for n in range(batch)]
        ).SerializeToString()
        for turn in range(turns)
    ]


def with_request_id(prepared: bytes, request_id: str) -> bytes:
    """Append the request id; protobuf accepts fields in any order."""
    return prepared + _REQUEST_ID + request_id.encode()


def serials_in(answer: bytes) -> list[bytes]:
    """Serial numbers in a response of either method, in hexadecimal."""
    return _SERIAL.findall(answer)


def failures_in(answer: bytes) -> list[tuple[str, str]]:
    """Status and reason of each refused item of a batch."""
    outcomes = wire.from_outcomes(pb.SignCertificatesResponse.FromString(answer))
    return [(outcome.code, outcome.reason) for outcome in outcomes if isinstance(outcome, Exception)]


def certificates_in(answer: bytes, batch: int) -> list[tuple[bytes, tuple[bytes, ...]]]:
    """Certificates of a response with their chains, in DER."""
    if batch == 1:
        signed = wire.from_signed(pb.SignCertificateResponse.FromString(answer))
        return [(signed.certificate_der, signed.chain_der)]
    outcomes = wire.from_outcomes(pb.SignCertificatesResponse.FromString(answer))
    return [(one.certificate_der, one.chain_der) for one in outcomes if not isinstance(one, Exception)]
