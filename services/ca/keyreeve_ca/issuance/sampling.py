"""Checks a sample of issued certificates with the linter and a signature check.

It runs in the coordinator on rows of the ledger, so it costs the signing path nothing. A finding is logged as an error,
counted, and can halt the profile (settings).
"""

import asyncio
import logging
from collections.abc import Callable, Hashable
from contextlib import suppress
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from keyreeve import errors
from keyreeve_ca.certificates.lint_gate import Linter
from keyreeve_ca.store.ports import Store, StoredCertificate, Transaction

_PAGE = 1000
"""Newest rows that one look can choose from; what is issued faster than this per look is sampled less."""
INTERVAL = 5.0

log = logging.getLogger(__name__)


@dataclass
class Sampling:
    """The background check. Not frozen: it remembers its position."""

    store: Store
    linter: Linter
    rate: float
    halt_profile: bool
    alarm: Callable[[str], None]
    """Counts a finding under the profile's name."""
    seen: frozenset[bytes] = frozenset()
    position: Hashable = None
    """Where the ledger was when everything in it had been seen."""

    async def run(self) -> None:
        """Check every few seconds, forever."""
        while True:
            await asyncio.sleep(INTERVAL)
            try:
                await self.look()
            except errors.StoreUnavailable as unavailable:
                log.warning("issued certificates could not be sampled: %s", unavailable)

    async def look(self) -> int:
        """Check the sample of what is new; return how many certificates were checked."""
        position = await self.store.read(lambda tx: tx.ledger_position(), one_statement=True)
        if position == self.position:
            return 0
        newest = await self.store.read(lambda tx: tx.newest_certificates(None, _PAGE))
        new = [row for row in newest if row.serial not in self.seen]
        # The serial number's last two octets are as good as random, and every replica chooses the same rows by them.
        chosen = [row for row in new if int.from_bytes(row.serial[-2:], "big") < self.rate * 65536]
        issuers = await self.store.read(lambda tx: _issuers(tx, {row.authority_id for row in chosen}))
        for row in chosen:
            findings = await asyncio.to_thread(self._check, row, issuers.get(row.authority_id))
            if findings:
                await self._report(row, findings)
        self.seen = frozenset(row.serial for row in newest)  # last: what a failure cut short is looked at again
        self.position = position
        return len(chosen)

    def _check(self, row: StoredCertificate, issuer_der: bytes | None) -> list[str]:
        try:
            findings = list(self.linter.certificate(row.der))
        except Exception as failure:  # noqa: BLE001 - what the linter cannot digest is a finding, and no reason to stop
            findings = [f"the linter failed on it: {type(failure).__name__}"]
        if issuer_der is None:
            return [*findings, f"its authority {row.authority_id} does not exist"]
        try:
            issuer = x509.load_der_x509_certificate(issuer_der)
            x509.load_der_x509_certificate(row.der).verify_directly_issued_by(issuer)
        except (ValueError, TypeError, InvalidSignature):
            findings.append(f"its signature is not that of {row.authority_id}")
        return findings

    async def _report(self, row: StoredCertificate, findings: list[str]) -> None:
        log.error("certificate %s under profile %s: %s", row.serial.hex(), row.profile_name, "; ".join(findings))
        self.alarm(row.profile_name)
        if self.halt_profile:

            def halt(tx: Transaction) -> None:
                tx.halt_profile(row.profile_name, row.profile_version)
                tx.bump_config()

            await self.store.write(halt)
            log.error("profile %s version %d is halted", row.profile_name, row.profile_version)


def _issuers(tx: Transaction, authority_ids: set[str]) -> dict[str, bytes]:
    """The certificates of the known authorities, by id."""
    found = {}
    for authority_id in authority_ids:
        with suppress(errors.AuthorityNotFound):
            found[authority_id] = tx.authority(authority_id).certificate_der
    return found
