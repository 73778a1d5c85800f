"""Rules for epochs: their digest and their order; no I/O."""

import hashlib
from collections.abc import Iterable

from keyreeve.length_prefix import length_prefixed
from keyreeve_membership.epochs.ports import BundleAuthority, Epoch


def digest_of(certificates_der: Iterable[bytes]) -> bytes:
    """SHA-256 over the certificates, each preceded by its length in 4 octets, sorted by their bytes."""
    return hashlib.sha256(length_prefixed(*sorted(certificates_der))).digest()


def next_epoch(
    before: Epoch | None,
    array_id: str,
    authorities: Iterable[BundleAuthority],
    *,
    restore_generation: int,
    rotation_id: str,
    now: int,
) -> Epoch:
    """The epoch that follows `before`."""
    ordered = tuple(sorted(authorities, key=lambda one: one.certificate_der))
    return Epoch(
        array_id,
        restore_generation,
        1 if before is None else before.epoch + 1,
        digest_of(one.certificate_der for one in ordered),
        b"" if before is None else before.digest,
        ordered,
        rotation_id,
        now,
    )
