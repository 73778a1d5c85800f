"""Requests that are encoded once, and answers that are read no further than the bench needs.

What a client costs is part of what it measures on a machine that it shares with the service. A request is prepared but
for its `request_id`, which follows as one more field; of an answer the serial numbers are found by their place.
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
    """The method that signs so many certificates in a call."""
    return UNARY if batch == 1 else BATCH


def prepare(profile: str, csrs: Sequence[bytes], batch: int) -> list[bytes]:
    """Requests without their request id; the items of a batch follow each other in the corpus."""
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
    """The request as it is sent: protobuf takes fields in any order."""
    return prepared + _REQUEST_ID + request_id.encode()


def serials_in(answer: bytes) -> list[bytes]:
    """The serial numbers in an answer of either method, as hexadecimal digits."""
    return _SERIAL.findall(answer)


def failures_in(answer: bytes) -> list[tuple[str, str]]:
    """Status and reason of each item of a batch that was refused."""
    outcomes = wire.from_outcomes(pb.SignCertificatesResponse.FromString(answer))
    return [(outcome.code, outcome.reason) for outcome in outcomes if isinstance(outcome, Exception)]


def certificates_in(answer: bytes, batch: int) -> list[tuple[bytes, tuple[bytes, ...]]]:
    """Each certificate of an answer with its chain; DER."""
    if batch == 1:
        signed = wire.from_signed(pb.SignCertificateResponse.FromString(answer))
        return [(signed.certificate_der, signed.chain_der)]
    outcomes = wire.from_outcomes(pb.SignCertificatesResponse.FromString(answer))
    return [(one.certificate_der, one.chain_der) for one in outcomes if not isinstance(one, Exception)]
