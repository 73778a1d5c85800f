"""Enrollment tokens, and the transcript that both sides authenticate.

docs/protocols.md describes them.

Pure functions: no I/O, no clock, no random bytes. The service and the enrollee use the same ones; the vectors in
tests/vectors/enrollment.json come from a program that shares no code with them.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Self

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from keyreeve.errors import TokenMalformed
from keyreeve.identity import SpiffeId, service_dns_name
from keyreeve.length_prefix import length_prefixed, split_fields

PREFIX: Final = "krt1_"
"""The beginning of every token, by which people and secret scanners recognize one."""
NONCE_BYTES: Final = 32
CLOCK_SKEW_SECONDS: Final = 60
RETRY_SECONDS: Final = 15 * 60
"""Time after the first use in which the same key gets the same response."""
SERVER: Final = "enroll"
"""The enrollment listener has this reserved name: `enroll.svc.{trust domain}`."""

_ID_BYTES: Final = 16
_SECRET_BYTES: Final = 32
_DIGEST_BYTES: Final = 32
_TIME_BYTES: Final = 8
_CHECK_BYTES: Final = 4
_LABEL: Final = b"keyreeve-enrol-1"
_ROOTS_LABEL: Final = b"keyreeve-enrol-roots-1"
_MAX_TEXT: Final = 8192


@dataclass(frozen=True, slots=True)
class EnrollmentToken:
    """The content of a token: an identity, where to enroll, and a secret."""

    token_id: bytes
    """16 octets; not secret."""
    secret: bytes = field(repr=False)
    """32 random octets; never sent over the network."""
    root_sha256: bytes
    """SHA-256 of the DER root certificate that the listener's certificate must lead to."""
    expires_at: int
    """Seconds since 1970."""
    identity: SpiffeId
    """The SPIFFE ID that its holder may enroll as."""
    address: str
    """`host:port` of the enrollment listener."""

    @property
    def server_name(self) -> str:
        """The DNS name that the listener's certificate must have."""
        return service_dns_name(SERVER, self.identity.trust_domain)

    def text(self) -> str:
        """Encode the token: `krt1_`, then unpadded base64url of fields and checksum."""
        body = length_prefixed(
            self.token_id,
            self.secret,
            self.root_sha256,
            self.expires_at.to_bytes(_TIME_BYTES),
            str(self.identity).encode(),
            self.address.encode(),
        )
        return PREFIX + base64.urlsafe_b64encode(body + _check(body)).decode().rstrip("=")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Decode a token; white space around it is ignored.

        Raises `TokenMalformed`, whose text contains no part of it.
        """
        raw = _decode(text.strip())
        body, check = raw[:-_CHECK_BYTES], raw[-_CHECK_BYTES:]
        if _check(body) != check:
            raise TokenMalformed("the token's checksum is wrong: a part of it is missing or was changed")
        try:
            fields = split_fields(body)
        except ValueError:
            raise TokenMalformed("the token is cut short") from None
        lengths = [_ID_BYTES, _SECRET_BYTES, _DIGEST_BYTES, _TIME_BYTES]
        if len(fields) != len(lengths) + 2 or [len(one) for one in fields[: len(lengths)]] != lengths:
            raise TokenMalformed("the token's fields are not those of this version")
        token_id, secret, root_sha256, expires_at, identity, address = fields
        try:
            found = cls(
                token_id,
                secret,
                root_sha256,
                int.from_bytes(expires_at),
                SpiffeId.parse(identity.decode("ascii")),
                address.decode("ascii"),
            )
        except ValueError as failure:
            raise TokenMalformed(f"the token contains no valid SPIFFE ID: {failure}") from None
        if not is_address(found.address):
            raise TokenMalformed("the token's address is not host:port")
        return found


def is_address(text: str) -> bool:
    """Say whether a text is `host:port`, an IPv6 address in brackets."""
    host, colon, port = text.rpartition(":")
    if ":" in host and not (host.startswith("[") and host.endswith("]")):
        return False
    return bool(host and colon) and text.isascii() and text.isprintable() and port.isdigit() and 0 < int(port) < 65536


def _decode(text: str) -> bytes:
    if not text.startswith(PREFIX) or len(text) > _MAX_TEXT:
        raise TokenMalformed(f"an enrollment token begins with {PREFIX}")
    encoded = text.removeprefix(PREFIX)
    try:
        raw = base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise TokenMalformed("the token contains characters that are not base64url") from None
    if base64.urlsafe_b64encode(raw).decode().rstrip("=") != encoded:
        raise TokenMalformed("the token is not in canonical base64url")
    return raw


def _check(body: bytes) -> bytes:
    """The checksum that detects typing errors and truncation.

    It is no protection against an attacker.
    """
    return hashlib.sha256(b"keyreeve-token-1" + body).digest()[:_CHECK_BYTES]


# --- Authenticated messages ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class EnrollmentKeys:
    """The three keys of a token.

    The service stores these, sealed, and never the secret.
    """

    server: bytes = field(repr=False)
    client: bytes = field(repr=False)
    result: bytes = field(repr=False)

    @classmethod
    def of(cls, secret: bytes, token_id: bytes) -> Self:
        """Derive the keys by HKDF-SHA-256 (RFC 5869).

        The salt is the id, info `keyreeve-enrol-1 s`, `... c` and `... r`.
        """
        return cls(*(_derive(secret, token_id, letter) for letter in (b"s", b"c", b"r")))

    @classmethod
    def read(cls, packed: bytes) -> Self:
        """Decode what `pack` encoded. Raises `ValueError`."""
        if len(packed) != 3 * _SECRET_BYTES:
            raise ValueError("three keys have 96 octets")
        return cls(packed[:32], packed[32:64], packed[64:])

    def pack(self) -> bytes:
        """Encode the three keys: their bytes in order."""
        return self.server + self.client + self.result


def _derive(secret: bytes, token_id: bytes, letter: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=token_id, info=_LABEL + b" " + letter).derive(secret)


@dataclass(frozen=True, slots=True)
class Transcript:
    """Everything that both sides sent before the enrollee's proof: T1.

    Times are seconds since 1970.
    """

    trust_domain: str
    root_sha256: bytes
    server_name: str
    token_id: bytes
    client_nonce: bytes
    client_time: int
    release: str
    server_nonce: bytes
    server_time: int
    name: str
    trust_root: bytes

    def t1(self) -> bytes:
        """Encode the transcript."""
        return length_prefixed(
            _LABEL,
            self.trust_domain.encode(),
            self.root_sha256,
            self.server_name.encode(),
            self.token_id,
            self.client_nonce,
            self.client_time.to_bytes(_TIME_BYTES),
            self.release.encode(),
            self.server_nonce,
            self.server_time.to_bytes(_TIME_BYTES),
            self.name.encode(),
            hashlib.sha256(self.trust_root).digest(),
        )

    def server_mac(self, keys: EnrollmentKeys) -> bytes:
        """Compute `mac_s`, which proves that the server knows the secret."""
        return hmac.digest(keys.server, self.t1(), "sha256")

    def client_mac(self, keys: EnrollmentKeys, server_mac: bytes, csr: bytes) -> bytes:
        """Compute `mac_c`: the enrollee knows the secret and sent this CSR."""
        message = length_prefixed(self.t1(), server_mac, hashlib.sha256(csr).digest())
        return hmac.digest(keys.client, message, "sha256")

    def result_mac(self, keys: EnrollmentKeys, client_mac: bytes, chain_der: Sequence[bytes]) -> bytes:
        """Compute `mac_r` over the issued chain and the trust root.

        H(chain) is over LP of its certificates.
        """
        chain = hashlib.sha256(length_prefixed(*chain_der)).digest()
        message = length_prefixed(self.t1(), client_mac, chain, hashlib.sha256(self.trust_root).digest())
        return hmac.digest(keys.result, message, "sha256")

    def roots_mac(self, keys: EnrollmentKeys, client_mac: bytes, roots_der: Sequence[bytes]) -> bytes:
        """Compute the MAC over the roots of the control hierarchy.

        During a rotation there are two.
        """
        roots = hashlib.sha256(length_prefixed(*roots_der)).digest()
        return hmac.digest(keys.result, length_prefixed(_ROOTS_LABEL, self.t1(), client_mac, roots), "sha256")
