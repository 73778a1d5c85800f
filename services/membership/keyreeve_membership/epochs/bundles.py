"""Rules for epochs: their digest and their order; no I/O."""

from collections.abc import Iterable

from keyreeve.trusted_certificates import bundle_digest
from keyreeve_membership.epochs.ports import BundleAuthority, Epoch


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
        bundle_digest(one.certificate_der for one in ordered),
        b"" if before is None else before.digest,
        ordered,
        rotation_id,
        now,
    )
