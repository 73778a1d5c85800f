"""Renew a certificate and its trusted roots in their files, before they expire."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from keyreeve._async import runtime
from keyreeve._async.client import Client
from keyreeve.context import Context
from keyreeve.errors import ContextInvalid, FileUnusable, KeyreeveError
from keyreeve.files import write_atomically
from keyreeve.keys import load_certificates, load_key, make_csr, make_key, save_key
from keyreeve.renewal_files import complete_renewal, lock_pair, next_path
from keyreeve.values import KeyType, Line, to_pem

CHECK_SECONDS = 60.0
"""Interval between checks of the bundles and the expiry."""
RENEW_AFTER = 2 / 3
"""Part of a certificate's life after which it is renewed; a random tenth at most is added, to spread the load."""


@dataclass
class IdentityRenewal:
    """Renewal of a context's certificate, for long-running programs.

    Clients of the same context move to the new files by themselves. The new key is stored beside the old one, as
    `NAME.next`, until its certificate is there: after a lost response the same key asks again and gets the same
    certificate. Programs that share the files lock each other out.
    """

    context: Context
    client: Client
    key_type: KeyType = KeyType.P256
    now: Callable[[], float] = time.time
    sleep: runtime.Sleep = runtime.sleep
    jitter: Callable[[], float] = random.random

    def due(self) -> float:
        """Return when the certificate is to be renewed, in seconds since 1970.

        Raises `ContextInvalid`.
        """
        return self._due(0.0)

    async def renew(self) -> None:
        """Renew the certificate for a new key, and move both into place.

        Raises `keyreeve.errors`; `FileUnusable` when another program is renewing it, or the files cannot be written.
        """
        if not await self._renew_locked(lambda: True):
            raise FileUnusable(f"another program is renewing {self.context.certificate}: try again")

    async def renew_when_due(self, spread: float = 0.0) -> bool:
        """Renew if it is time and no other program is doing so.

        Returns whether it was renewed.

        `spread` delays it by that part of the certificate's life. Raises `keyreeve.errors`.
        """
        return await self._renew_locked(lambda: self.now() >= self._due(spread))

    def is_due(self) -> bool:
        """Whether it is time to renew, or to complete_renewal an interrupted renewal.

        No call is made. Raises `ContextInvalid`.
        """
        return next_path(self.context.certificate).exists() or self.now() >= self.due()

    async def _renew_locked(self, is_due: Callable[[], bool]) -> bool:
        try:
            with lock_pair(self.context.key) as locked:
                if locked:
                    complete_renewal(self.context.certificate, self.context.key)
                if not locked or not is_due():
                    return False
                await self._renew()
                return True
        except OSError as failure:
            raise FileUnusable(f"cannot replace {self.context.certificate} and its key: {failure.strerror}") from None

    async def _renew(self) -> None:
        leaf = self._leaf()
        new_key = next_path(self.context.key)
        if new_key.exists():
            key = load_key(new_key)
        else:
            key = make_key(self.key_type)
            save_key(new_key, key)
        signed = await self.client.certificates.renew(f"{leaf.serial_number:032x}", make_csr(key))
        write_atomically(next_path(self.context.certificate), signed.pem().encode())
        complete_renewal(self.context.certificate, self.context.key)

    async def refresh_bundles(self) -> bool:
        """Write the bundles that have changed; say whether any had.

        Raises `keyreeve.errors`.
        """
        changed = False
        for line, path in ((Line.CONTROL, self.context.bundle), (Line.ESTATE, self.context.estate_bundle)):
            bundle = await self.client.authorities.bundle(line)
            if _certificates(path) != sorted(bundle.roots_der):
                write_atomically(path, to_pem(bundle.roots_der).encode())
                changed = True
        return changed

    async def keep(self, on_failure: Callable[[KeyreeveError], None] = lambda _failure: None) -> None:
        """Renew in time and update the bundles, without an end.

        A failure is passed to `on_failure`, and retried.
        """
        spread = self.jitter() / 10
        while True:
            try:
                await self.refresh_bundles()
                if await self.renew_when_due(spread):
                    spread = self.jitter() / 10
            except KeyreeveError as failure:
                on_failure(failure)
            await self.sleep(CHECK_SECONDS)

    def _due(self, spread: float) -> float:
        leaf = self._leaf()
        begin, end = leaf.not_valid_before_utc.timestamp(), leaf.not_valid_after_utc.timestamp()
        return begin + (end - begin) * (RENEW_AFTER + spread)

    def _leaf(self) -> x509.Certificate:
        try:
            return x509.load_der_x509_certificate(load_certificates(self.context.certificate)[0])
        except (OSError, ValueError) as failure:
            raise ContextInvalid(f"cannot read {self.context.certificate}: {failure}") from None


def _certificates(path: Path) -> list[bytes]:
    try:
        return sorted(load_certificates(path))
    except (OSError, ValueError):
        return []
