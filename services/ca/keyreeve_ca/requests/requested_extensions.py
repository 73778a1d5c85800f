"""Extensions requested in a CSR, beside names. The profile decides what the certificate holds."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from keyreeve.errors import CsrMalformed, KeyreeveError
from keyreeve_ca.requests import der_reader as der

_BASIC_CONSTRAINTS = bytes.fromhex("551d13")
_KEY_USAGE = bytes.fromhex("551d0f")
_EXTENDED_KEY_USAGE = bytes.fromhex("551d25")

_KEY_USAGE_BITS = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)
_PURPOSES = {
    bytes.fromhex("2b06010505070301"): "server_auth",
    bytes.fromhex("2b06010505070302"): "client_auth",
    bytes.fromhex("2b06010505070303"): "code_signing",
    bytes.fromhex("2b06010505070304"): "email_protection",
    bytes.fromhex("2b06010505070308"): "time_stamping",
    bytes.fromhex("2b06010505070309"): "ocsp_signing",
    bytes.fromhex("551d2500"): "any_extended_key_usage",
}
_EXTENSIONS = {
    "1.3.6.1.5.5.7.1.1": "authority information access",
    "1.3.6.1.5.5.7.1.24": "TLS feature",
    "2.5.29.14": "subject key identifier",
    "2.5.29.18": "issuer alternative name",
    "2.5.29.30": "name constraints",
    "2.5.29.31": "CRL distribution points",
    "2.5.29.32": "certificate policies",
    "2.5.29.35": "authority key identifier",
    "2.5.29.36": "policy constraints",
    "2.5.29.54": "inhibit anyPolicy",
    "1.2.840.113549.1.9.15": "S/MIME capabilities",
    "1.3.6.1.4.1.311.20.2": "Microsoft certificate template name",
    "1.3.6.1.4.1.311.21.7": "Microsoft certificate template",
    "1.3.6.1.4.1.311.21.10": "Microsoft application policies",
    "2.16.840.1.113730.1.1": "Netscape certificate type",
    "2.16.840.1.113730.1.13": "Netscape comment",
}
MAX_PURPOSES = 32


@dataclass(frozen=True, slots=True)
class RequestedExtensions:
    """The requested extensions; `None` where the request says nothing."""

    key_usage: frozenset[str] | None = None
    """Names of bits, such as `digital_signature`."""
    extended_key_usage: frozenset[str] | None = None
    """Names of purposes, such as `server_auth`, or OIDs in dotted form."""
    authority: bool = False
    """Basic constraints that ask for a CA certificate."""
    others: tuple[str, ...] = ()
    """Extensions that no request is granted, by name and OID."""
    unreadable: tuple[str, ...] = ()
    """What is wrong with each usage that cannot be read."""
    strict_refusal: KeyreeveError | None = field(default=None, compare=False)
    """Why a profile with `requests: strict` refuses their encoding."""


NO_REQUESTED_EXTENSIONS = RequestedExtensions()


def read_requested_extensions(data: bytes, extensions: Mapping[bytes, tuple[int, int]]) -> RequestedExtensions:
    """Read the requested extensions: OID -> location of the value in `data`. Raises `CsrMalformed`."""
    key_usage: frozenset[str] | None = None
    purposes: frozenset[str] | None = None
    authority = False
    others: list[str] = []
    unreadable: list[str] = []
    refusal: KeyreeveError | None = None
    for oid, (start, end) in extensions.items():
        try:
            if oid == _KEY_USAGE:
                key_usage = _read_key_usage(data, start, end)
                continue
            if oid == _EXTENDED_KEY_USAGE:
                purposes = _read_purposes(data, start, end)
                continue
        except CsrMalformed as problem:
            unreadable.append(problem.message)
            continue
        if oid == _BASIC_CONSTRAINTS:
            authority, refusal = _read_basic_constraints(data, start, end)
        else:
            text = der.oid_text(oid, "an extension's type")
            others.append(f"{_EXTENSIONS[text]} ({text})" if text in _EXTENSIONS else text)
    return RequestedExtensions(key_usage, purposes, authority, tuple(others), tuple(unreadable), refusal)


def _read_key_usage(data: bytes, at: int, end: int) -> frozenset[str]:
    start, stop = der.expect(data, at, end, der.BIT_STRING, "the key usage")
    if stop != end or not 2 <= stop - start <= 3:
        raise CsrMalformed("the key usage is not a bit string of one to nine bits")
    unused = data[start]
    bits = int.from_bytes(data[start + 1 : stop], "big")
    # Trailing zero bits of a named bit list are left out (X.690, 11.2.2), so the last bit that is there is a one.
    if unused > 7 or bits & ((1 << unused + 1) - 1) != 1 << unused:
        raise CsrMalformed("the key usage is not in its shortest form")
    width = 8 * (stop - start - 1)
    requested = [bit for bit in range(width) if bits >> (width - 1 - bit) & 1]
    if requested[-1] >= len(_KEY_USAGE_BITS):
        raise CsrMalformed("the key usage has a bit that RFC 5280 does not name")
    return frozenset(_KEY_USAGE_BITS[bit] for bit in requested)


def _read_purposes(data: bytes, at: int, end: int) -> frozenset[str]:
    at, stop = der.expect(data, at, end, der.SEQUENCE, "the extended key usage")
    if stop != end or at == stop:
        raise CsrMalformed("the extended key usage is empty, or followed by other bytes")
    purposes: set[str] = set()
    while at < stop:
        start, at = der.expect(data, at, stop, der.OBJECT_IDENTIFIER, "an extended key usage")
        oid = data[start:at]
        purposes.add(_PURPOSES.get(oid) or der.oid_text(oid, "an extended key usage"))
        if len(purposes) > MAX_PURPOSES:
            raise CsrMalformed(f"more than {MAX_PURPOSES} extended key usages are asked for")
    return frozenset(purposes)


def _read_basic_constraints(data: bytes, at: int, end: int) -> tuple[bool, KeyreeveError | None]:
    """Return whether a CA certificate is asked for, and why strict profiles refuse the encoding."""
    start, stop = der.expect(data, at, end, der.SEQUENCE, "the basic constraints")
    if stop != end:
        raise CsrMalformed("the basic constraints are followed by other bytes")
    if start == stop:
        return False, None
    der.check_whole(data, start, stop, "the basic constraints")
    tag, value, value_end = der.element(data, start, stop, "the basic constraints")
    refusal = CsrMalformed("the basic constraints are not in DER: an end-entity's are an empty SEQUENCE")
    if tag == der.BOOLEAN and value_end - value == 1:
        return data[value] != 0, None if data[value] == 0xFF else refusal
    if tag == der.INTEGER:
        return False, refusal  # a path length without the CA flag
    raise CsrMalformed("the basic constraints are neither empty nor a flag and a path length")
