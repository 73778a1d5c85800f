"""CRLs (RFC 5280, section 5): encoded, signed, and checked by parsing with another library."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from operator import attrgetter

from cryptography import x509

from keyreeve import errors
from keyreeve_ca.certificates import der_writer as der
from keyreeve_ca.certificates.algorithms import SIGNATURE_ALGORITHM
from keyreeve_ca.certificates.plan import Issuer
from keyreeve_ca.certificates.signers import CrlSigner
from keyreeve_ca.certificates.template import authority_key_identifier, certificate
from keyreeve_ca.requests.key_rules import PublicKey, check_signature

_VERSION_2 = der.integer(1)
_OID_CRL_NUMBER = der.oid("2.5.29.20")
_OID_REASON = der.oid("2.5.29.21")
_OID_ISSUING_DISTRIBUTION_POINT = der.oid("2.5.29.28")
_ENUMERATED = 0x0A
_NO_REASON = 0
_PIECE = 250
"""Entries that are encoded in one go: less than a millisecond."""


@dataclass(frozen=True, slots=True)
class ListEntry:
    """One revoked certificate. `reason` is a CRLReason; 0 is left out, as RFC 5280, 5.3.1, asks."""

    serial: bytes
    revoked_at: int
    reason: int = _NO_REASON


def list_url(url: str, authority_id: str, shard: int) -> str:
    """The URL of a shard's CRL, exactly as its certificates have it."""
    return f"{url}/crl/{authority_id}/{shard}.crl"


def build_revocation_list(
    issuer: Issuer,
    signer: CrlSigner,
    shard: int | None,
    *,
    number: int,
    this_update: int,
    next_update: int,
    entries: Iterable[ListEntry],
    pause: Callable[[], None] = lambda: None,
) -> bytes:
    """Build and sign a CRL. Raises `FinalCheckFailed` when it does not parse back to its entries.

    `pause` is called after each piece of work, so that a long CRL does not hold up other tasks.

    The issuing distribution point of a shard is critical (5.2.5): a relying party that does not understand it must not
    take a shard for the complete CRL, which has none (`shard` is None).
    """
    parent = x509.load_der_x509_certificate(issuer.certificate_der)
    key_id = parent.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    rows = sorted(entries, key=attrgetter("serial"))
    extensions = authority_key_identifier(key_id) + der.extension(_OID_CRL_NUMBER, der.integer(number))
    if shard is not None:
        address = der.tlv(0x86, list_url(issuer.url, issuer.authority_id, shard).encode("ascii"))
        point = der.sequence(der.tlv(0xA0, der.tlv(0xA0, address)))
        extensions += der.extension(_OID_ISSUING_DISTRIBUTION_POINT, point, critical=True)
    algorithm = SIGNATURE_ALGORITHM[signer.key_type]
    pieces = []
    for at in range(0, len(rows), _PIECE):
        pieces.append(b"".join(map(_entry, rows[at : at + _PIECE])))
        pause()
    revoked = der.tlv(der.SEQUENCE, b"".join(pieces)) if rows else b""  # an empty list is left out (5.1.2.6)
    tbs = der.tlv(
        der.SEQUENCE,
        _VERSION_2
        + algorithm
        + parent.subject.public_bytes()
        + der.point_in_time(this_update)
        + der.point_in_time(next_update)
        + revoked
        + der.tlv(0xA0, der.tlv(der.SEQUENCE, extensions)),
    )
    signed = certificate(tbs, algorithm, signer.sign(tbs))
    made = x509.load_der_x509_crl(signed)
    _check(made, parent.subject, number, rows)
    _check_signature(made, tbs, algorithm, parent.public_key())  # type: ignore[arg-type]  # an authority's key signs
    return signed


def _entry(entry: ListEntry) -> bytes:
    return der.tlv(der.SEQUENCE, der.tlv(der.INTEGER, entry.serial) + _when_and_why(entry.revoked_at, entry.reason))


@lru_cache(maxsize=4096)
def _when_and_why(revoked_at: int, reason: int) -> bytes:
    """Encode revocation date and reason. Cached: many are revoked in one second for one reason."""
    when = der.point_in_time(revoked_at)
    if reason == _NO_REASON:
        return when
    return when + der.sequence(der.extension(_OID_REASON, der.tlv(_ENUMERATED, bytes((reason,)))))


def _check_signature(made: x509.CertificateRevocationList, tbs: bytes, algorithm: bytes, key: PublicKey) -> None:
    try:
        # Not `made.is_signature_valid`: it encodes the list again, which blocks the loop for 18 ms with a full shard.
        check_signature(key, algorithm, made.signature, tbs)
    except errors.CsrSignatureInvalid:
        raise errors.FinalCheckFailed("a revocation list is not signed with its authority's key") from None


def _check(made: x509.CertificateRevocationList, issuer: x509.Name, number: int, rows: list[ListEntry]) -> None:
    found = made.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    ends = (rows[0], rows[-1]) if rows else ()
    if (
        made.issuer != issuer
        or found != number
        or len(made) != len(rows)
        or any(made.get_revoked_certificate_by_serial_number(int.from_bytes(e.serial, "big")) is None for e in ends)
    ):
        raise errors.FinalCheckFailed("a revocation list does not read back as what it was meant to be")
