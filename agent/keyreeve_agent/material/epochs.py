"""Which epochs a member takes: it goes forward only, and never back to what it has left."""

from collections.abc import Iterable
from dataclasses import dataclass

from keyreeve.errors import EpochDowngrade, EpochEquivocation
from keyreeve.membership_values import Epoch
from keyreeve.trusted_certificates import bundle_digest


@dataclass(frozen=True, slots=True)
class SeenEpoch:
    """The highest epoch of an array that this member has ever seen."""

    restore_generation: int
    epoch: int
    digest: bytes

    @classmethod
    def of(cls, epoch: Epoch) -> "SeenEpoch":
        """The same of an epoch."""
        return cls(epoch.restore_generation, epoch.epoch, epoch.digest)


def walk_forward(seen: SeenEpoch | None, offered: Iterable[Epoch]) -> list[SeenEpoch]:
    """Check epochs one after the other and return each as seen.

    Raises `EpochDowngrade` for one below the highest seen, `EpochEquivocation` for another digest of the same epoch, for a
    digest that is not of its certificates, and for one that does not follow the epoch before. Only after a restore of the
    control plane's database (another restore generation) does the chain begin anew.
    """
    found = []
    for epoch in offered:
        if epoch.digest != bundle_digest(one.certificate_der for one in epoch.authorities):
            raise _equivocation(epoch, "its digest is not that of its certificates")
        if seen is not None:
            _check_follows(seen, epoch)
        seen = SeenEpoch.of(epoch)
        found.append(seen)
    return found


def _check_follows(seen: SeenEpoch, epoch: Epoch) -> None:
    before = (seen.restore_generation, seen.epoch)
    place = (epoch.restore_generation, epoch.epoch)
    if place < before:
        raise EpochDowngrade(
            f"{epoch.array}: epoch {epoch.epoch} is offered, and {seen.epoch} has been seen",
            metadata={"array": epoch.array, "epoch": str(epoch.epoch), "seen": str(seen.epoch)},
        )
    if place == before and epoch.digest != seen.digest:
        raise _equivocation(epoch, "another digest has been seen")
    if epoch.restore_generation == seen.restore_generation and epoch.epoch > seen.epoch + 1:
        raise _equivocation(epoch, f"the epochs after {seen.epoch} are missing")
    follows = place == (seen.restore_generation, seen.epoch + 1)
    if follows and epoch.previous_digest != seen.digest:
        raise _equivocation(epoch, "it does not follow the epoch that has been seen")


def _equivocation(epoch: Epoch, why: str) -> EpochEquivocation:
    return EpochEquivocation(
        f"{epoch.array}, epoch {epoch.epoch}: {why}", metadata={"array": epoch.array, "epoch": str(epoch.epoch)}
    )
