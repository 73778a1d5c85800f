"""What a service of ours knows of revoked callers: followed from the CA service, checked, and kept on disk.

`RevokedCallers` answers from memory whether a certificate was revoked, and how old that knowledge is: what a verifier of
callers asks on every call. `keyreeve.aio.Client.certificates.watch_revocations` brings the updates.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from keyreeve.errors import RevocationsRefused
from keyreeve.files import PRIVATE, write_atomically
from keyreeve.identity import Role, SpiffeId
from keyreeve.length_prefix import length_prefixed
from keyreeve.values import RevocationUpdate

SKEW = 600
"""Seconds for which an expired certificate is still remembered."""
_SAVE_SECONDS = 10.0
"""How often the file is written when nothing but the time has changed."""
_CLOCKS = 60
"""Seconds by which the two clocks may differ."""


def update_message(
    trust_domain: str,
    restore_generation: int,
    *,
    after_seq: int,
    seq: int,
    time: int,
    revoked: Iterable[tuple[bytes, int]],
) -> bytes:
    """What an update's signature is over (docs/protocols.md): serial numbers of 16 octets, numbers of 8, big-endian."""
    entries = b"".join(serial + not_after.to_bytes(8, "big") for serial, not_after in revoked)
    numbers = (number.to_bytes(8, "big") for number in (restore_generation, after_seq, seq, time))
    return length_prefixed(b"keyreeve-revocations-1", trust_domain.encode(), *numbers, hashlib.sha256(entries).digest())


class RevokedCallers:
    """The revoked certificates of the control hierarchy, as of the last update. Not for several threads at once."""

    def __init__(
        self,
        trust_domain: str,
        path: Path | None = None,
        *,
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin with nothing known. With `path` every update is kept in that file (mode 0600) as well."""
        self.trust_domain = trust_domain
        self.restore_generation = 0
        self.seq = 0
        self._path = path
        self._now = now
        self._clock = clock
        self._expiry: dict[int, int] = {}
        self._heard = float("-inf")
        self._saved = float("-inf")
        self._signer: tuple[x509.Certificate, ...] = ()

    @classmethod
    def load(
        cls,
        trust_domain: str,
        path: Path,
        *,
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> Self:
        """Begin with what the file holds; with nothing when there is none or it cannot be read."""
        made = cls(trust_domain, path, now=now, clock=clock)
        try:
            kept = json.loads(path.read_bytes())
            if kept["trust_domain"] != trust_domain:
                return made
            made._expiry = {int(serial, 16): int(expiry) for serial, expiry in kept["revoked"].items()}
            made.restore_generation, made.seq = int(kept["restore_generation"]), int(kept["seq"])
            made._heard = clock() - max(0.0, now() - float(kept["heard_at"]))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            made._expiry, made.restore_generation, made.seq = {}, 0, 0
        return made

    def is_revoked(self, serial: int) -> bool:
        """Whether the certificate with this serial number has been revoked."""
        return serial in self._expiry

    def age(self) -> float:
        """Seconds since this knowledge was complete; infinite when it never was."""
        return self._clock() - self._heard

    def apply(self, update: RevocationUpdate, roots: Sequence[x509.Certificate]) -> None:
        """Take in an update that the CA service signed.

        `roots` are those of the control hierarchy. Raises `keyreeve.errors.RevocationsRefused`: nothing has changed then.
        """
        signer = self._check(update, roots)
        fresh = update.after_seq == 0
        if not fresh and (update.restore_generation, update.after_seq) != (self.restore_generation, self.seq):
            raise RevocationsRefused(
                f"an update begins at {update.restore_generation}/{update.after_seq}, "
                f"and {self.restore_generation}/{self.seq} is known"
            )
        changed = fresh or bool(update.revoked) or update.seq != self.seq
        new = {int.from_bytes(serial, "big"): expiry for serial, expiry in update.revoked}
        self._signer = signer
        # A new beginning of the same history takes nothing back; of another history it does, once it is complete.
        self._expiry = new if fresh and update.restore_generation != self.restore_generation else self._expiry | new
        self.restore_generation, self.seq = update.restore_generation, update.seq
        self._heard = self._clock()
        if changed:
            ended = self._now() - SKEW
            self._expiry = {serial: expiry for serial, expiry in self._expiry.items() if expiry >= ended}
        if self._path is not None and (changed or self._heard - self._saved >= _SAVE_SECONDS):
            self._save(self._path)

    def _check(self, update: RevocationUpdate, roots: Sequence[x509.Certificate]) -> tuple[x509.Certificate, ...]:
        chain = self._signer
        if update.signer_der:
            chain = tuple(x509.load_der_x509_certificate(der) for der in update.signer_der)
        if not chain:
            raise RevocationsRefused("the first update does not say who signed it")
        self._check_signer(chain, roots)
        if abs(update.time - self._now()) > _CLOCKS:
            raise RevocationsRefused(f"an update is dated {update.time - self._now():.0f} s from this machine's clock")
        message = update_message(
            self.trust_domain,
            update.restore_generation,
            after_seq=update.after_seq,
            seq=update.seq,
            time=update.time,
            revoked=update.revoked,
        )
        key = chain[0].public_key()
        try:
            if not isinstance(key, ec.EllipticCurvePublicKey):
                raise InvalidSignature  # noqa: TRY301  # the CA service's own keys are P-256
            key.verify(update.signature, message, ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            raise RevocationsRefused("an update's signature is not the CA service's") from None
        return chain

    def _check_signer(self, chain: Sequence[x509.Certificate], roots: Sequence[x509.Certificate]) -> None:
        now = self._now()
        path = [*chain, next((root for root in roots if root.subject == chain[-1].issuer), chain[-1])]
        try:
            for lower, upper in pairwise(path):
                lower.verify_directly_issued_by(upper)
        except (ValueError, TypeError, InvalidSignature):
            raise RevocationsRefused("an update's signer does not belong to the control hierarchy") from None
        if path[-1] not in roots:
            raise RevocationsRefused("an update's signer does not belong to the control hierarchy")
        if any(not c.not_valid_before_utc.timestamp() <= now < c.not_valid_after_utc.timestamp() + 1 for c in path):
            raise RevocationsRefused("an update's signer, or an authority above it, is not valid now")
        names = chain[0].extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        identities = [SpiffeId.parse(uri) for uri in names.get_values_for_type(x509.UniformResourceIdentifier)]
        if [(one.role, one.trust_domain) for one in identities] != [(Role.CA, self.trust_domain)]:
            raise RevocationsRefused(
                f"an update was signed by {', '.join(map(str, identities))}, not by the CA service"
            )

    def _save(self, path: Path) -> None:
        kept = {
            "trust_domain": self.trust_domain,
            "restore_generation": self.restore_generation,
            "seq": self.seq,
            "heard_at": self._now(),
            "revoked": {f"{serial:032x}": expiry for serial, expiry in self._expiry.items()},
        }
        write_atomically(path, json.dumps(kept).encode(), mode=PRIVATE)
        self._saved = self._heard
