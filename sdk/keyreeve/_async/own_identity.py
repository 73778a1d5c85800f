"""Keeping an identity alive: a new certificate before the old one ends, and the roots as they change, in the same files."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from keyreeve._async import runtime
from keyreeve._async.client import Client
from keyreeve.context import Context
from keyreeve.errors import ContextInvalid, KeyreeveError
from keyreeve.files import write_atomically
from keyreeve.keys import load_certificates, load_key, make_csr, make_key, save_key
from keyreeve.values import KeyType, Line, to_pem

LOOK_SECONDS = 60.0
"""How often the bundles are asked for, and the clock is looked at."""
SHARE_OF_LIFE = 2 / 3
"""When a certificate is renewed, plus up to a tenth of its life by chance: those issued together spread out."""


@dataclass
class OwnIdentity:
    """The identity of a context, for a program that runs for long.

    Clients of the same context move to the new files by themselves. The new key lies beside the old one, as `NAME.next`,
    until its certificate has come: when the answer is lost, the same key asks again and gets the same certificate.
    """

    context: Context
    client: Client
    key_type: KeyType = KeyType.P256
    now: Callable[[], float] = time.time
    sleep: runtime.Sleep = runtime.sleep
    jitter: Callable[[], float] = random.random

    def due(self) -> float:
        """When the certificate is to be renewed, in seconds since 1970. Raises `ContextInvalid`."""
        leaf = self._leaf()
        begin, end = leaf.not_valid_before_utc.timestamp(), leaf.not_valid_after_utc.timestamp()
        return begin + (end - begin) * SHARE_OF_LIFE

    async def renew(self) -> None:
        """Have the certificate renewed for a new key, and put both in their places. Raises `keyreeve.errors`."""
        leaf = self._leaf()
        following = self.context.key.with_name(f"{self.context.key.name}.next")
        if following.exists():
            key = load_key(following)
        else:
            key = make_key(self.key_type)
            save_key(following, key)
        signed = await self.client.certificates.renew(f"{leaf.serial_number:032x}", make_csr(key))
        write_atomically(_next_to(self.context.certificate), signed.pem().encode())
        self.finish()

    def finish(self) -> None:
        """Put a new key and its certificate in place, if a certificate is waiting; any step may be repeated.

        Between the two moves they do not fit each other; clients then keep what they have.
        """
        waiting, following = _next_to(self.context.certificate), _next_to(self.context.key)
        if not waiting.exists():
            return
        if following.exists():
            following.replace(self.context.key)
        waiting.replace(self.context.certificate)

    async def refresh_bundles(self) -> bool:
        """Write the bundles that have changed, and say whether any had. Raises `keyreeve.errors`."""
        changed = False
        for line, path in ((Line.CONTROL, self.context.bundle), (Line.ESTATE, self.context.estate_bundle)):
            bundle = await self.client.authorities.bundle(line)
            if _certificates(path) != sorted(bundle.roots_der):
                write_atomically(path, to_pem(bundle.roots_der).encode())
                changed = True
        return changed

    async def keep(self, told: Callable[[KeyreeveError], None] = lambda _failure: None) -> None:
        """Renew in time and follow the bundles, for ever; `told` hears of failures, and the next attempt follows."""
        self.finish()
        spread = self.jitter() / 10
        while True:
            try:
                await self.refresh_bundles()
                leaf = self._leaf()
                life = (leaf.not_valid_after_utc - leaf.not_valid_before_utc).total_seconds()
                if self.now() >= self.due() + life * spread:
                    await self.renew()
                    spread = self.jitter() / 10
            except KeyreeveError as failure:
                told(failure)
            await self.sleep(LOOK_SECONDS)

    def _leaf(self) -> x509.Certificate:
        try:
            return x509.load_der_x509_certificate(load_certificates(self.context.certificate)[0])
        except (OSError, ValueError) as failure:
            raise ContextInvalid(f"cannot read {self.context.certificate}: {failure}") from None


def _next_to(path: Path) -> Path:
    return path.with_name(f"{path.name}.next")


def _certificates(path: Path) -> list[bytes]:
    try:
        return sorted(load_certificates(path))
    except (OSError, ValueError):
        return []
