"""Answering OCSP requests (RFC 6960): for which certificates, with which key, from the ledger as it is now.

An answer is signed by a key that its authority has delegated for nothing else. That key lives in this process alone: it
is made at the first question about an authority and replaced when half of its certificate's week is over, so nothing of
it is ever stored. The serial number of its certificate is committed before it is signed, as every other.
"""

import asyncio
import logging
import os
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509 import ocsp
from cryptography.x509.oid import OCSPExtensionOID

from keyreeve import errors
from keyreeve.values import AuthorityState
from keyreeve_ca.certificates import serials
from keyreeve_ca.certificates.lint_gate import Linter, lint_findings
from keyreeve_ca.certificates.signers import IssuingSigner
from keyreeve_ca.issuance.snapshot import IssuanceSnapshot, issuer_of
from keyreeve_ca.ledger.ports import BlockRequest, InProcess
from keyreeve_ca.ocsp import messages as building
from keyreeve_ca.ocsp.messages import CertificateId, Good, Revoked, Status, Unknown
from keyreeve_ca.revocation.crl_publisher import BACKDATE, serial_of_authority
from keyreeve_ca.revocation.ports import REASON_CODES
from keyreeve_ca.store.ports import Authority, Store, Transaction
from keyreeve_chassis.keys.key_types import KeyType
from keyreeve_chassis.keys.ports import KeyStore, Signer

RESPONDER_LIFETIME = 7 * 24 * 3600
ANSWER_LIFETIME = 3600
"""Seconds from an answer to its nextUpdate."""
KEPT_SECONDS = 3
"""For how long an answer is given again: also the most that a change may take which this process does not hear of."""
MOST_KEPT = 4_096
"""Answers that are kept; about 1 kB each."""
MAX_NONCE_BYTES = 128
"""RFC 9654, 2.1."""


log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Answer:
    """A response and its cache lifetime."""

    der: bytes
    cacheable: bool
    """It holds no nonce, and says something."""


@dataclass(frozen=True, slots=True)
class _Responder:
    signer: Signer
    certificate_der: bytes
    not_before: int
    not_after: int


@dataclass
class OcspResponder:
    """The OCSP use case. Not frozen: it holds the responder keys."""

    store: Store
    keystore: KeyStore
    snapshot: Callable[[], IssuanceSnapshot]
    linter: Linter
    url: str
    now: Callable[[], int]
    random: Callable[[int], bytes] = os.urandom
    _responders: dict[str, _Responder] = field(default_factory=dict)
    _making: asyncio.Lock = field(default_factory=asyncio.Lock)
    changes: Callable[[], Hashable | None] = lambda: None
    """A value that differs after a revocation or another change; None while changes may be missed."""
    _known: tuple[int, dict[tuple[str, bytes, bytes], str]] = (-1, {})
    _answers: dict[bytes, tuple[Hashable, int, Answer]] = field(default_factory=dict)

    async def answer(self, request_der: bytes) -> Answer:
        """Answer one request, with an error response if need be.

        The same request gets the same answer for some seconds, unless something changes meanwhile.
        """
        changes, now = self.changes(), self.now()
        if changes is not None and (known := self._answers.get(request_der)) is not None:
            if known[0] == changes and now - known[1] <= KEPT_SECONDS:
                return known[2]
            del self._answers[request_der]
        made = await self._answer(request_der)
        if changes is not None and made.cacheable:
            if len(self._answers) >= MOST_KEPT:
                del self._answers[next(iter(self._answers))]
            self._answers[request_der] = (changes, now, made)
        return made

    async def _answer(self, request_der: bytes) -> Answer:
        try:
            request = ocsp.load_der_ocsp_request(request_der)
            asked = CertificateId(
                request.hash_algorithm.name, request.issuer_name_hash, request.issuer_key_hash, request.serial_number
            )
            nonce = _nonce(request)
        # Several certificates in one request, and hash algorithms that the library does not know, too.
        except (ValueError, NotImplementedError, UnsupportedAlgorithm, errors.FieldInvalid):
            return _refused(ocsp.OCSPResponseStatus.MALFORMED_REQUEST)
        authority = self._issuer(asked)
        if authority is None:
            return _refused(ocsp.OCSPResponseStatus.UNAUTHORIZED)
        try:
            responder = await self._responder(authority)
            status = await self._status(authority, asked.serial)
        except errors.StoreUnavailable:
            return _refused(ocsp.OCSPResponseStatus.TRY_LATER)
        except (LookupError, errors.KeyreeveError):
            log.exception("an OCSP request about authority %s could not be answered", authority.authority_id)
            return _refused(ocsp.OCSPResponseStatus.INTERNAL_ERROR)
        now = self.now()
        made = building.build_answer(
            asked,
            status,
            signer=responder.signer,
            responder_der=responder.certificate_der,
            produced_at=now,
            this_update=now - BACKDATE,
            next_update=min(now + ANSWER_LIFETIME, responder.not_after),
            nonce=nonce,
        )
        # An unknown certificate may be issued the next moment.
        return Answer(made, cacheable=nonce is None and not isinstance(status, Unknown))

    def _issuer(self, asked: CertificateId) -> Authority | None:
        snapshot = self.snapshot()
        if self._known[0] != snapshot.config_version:
            known = {}
            for authority in snapshot.authorities.values():
                for name in building.HASH_NAMES:
                    hashes = building.issuer_hashes(authority.certificate_der, name)
                    known[name, *hashes] = authority.authority_id
            self._known = (snapshot.config_version, known)
        found = self._known[1].get((asked.hash_name, asked.issuer_name_hash, asked.issuer_key_hash))
        if found is None or (authority := snapshot.authorities[found]).state in (
            AuthorityState.PENDING,
            AuthorityState.RETIRED,
        ):
            return None
        return authority

    async def _status(self, authority: Authority, number: int) -> Status:
        if number.bit_length() >= serials.SERIAL_BYTES * 8:
            return Unknown()
        serial = number.to_bytes(serials.SERIAL_BYTES, "big")
        for one in self.snapshot().authorities.values():
            if one.issuer_id == authority.authority_id and serial_of_authority(one) == serial:
                if one.state is AuthorityState.REVOKED:
                    return Revoked(one.revoked_at or 0, REASON_CODES[one.revocation_reason or "unspecified"])
                return Good()
        return await self.store.read(lambda tx: self._leaf_status(tx, authority, serial))

    def _leaf_status(self, tx: Transaction, authority: Authority, serial: bytes) -> Status:
        revoked = tx.revocations.of([serial]).get(serial)
        if revoked is not None and revoked.authority_id == authority.authority_id:
            return Revoked(revoked.revoked_at, REASON_CODES[revoked.reason])
        entry = tx.certificates_by_serial([serial]).get(serial)
        if entry is not None:
            return Good() if entry.authority_id == authority.authority_id else Unknown()
        try:
            some = tx.revocations.phantoms_of_block(serials.block_of(serial))
        except ValueError:
            return Unknown()
        if some is not None and some.phantoms.authority_id == authority.authority_id:
            found = some.phantoms
            seed = self.keystore.unseal("seed", some.seed_id, some.sealed_seed)
            if any(
                serials.serial(found.block_id, seed, counter) == serial
                for counter in range(found.first_counter, found.last_counter + 1)
            ):
                return Revoked(found.noticed_at, REASON_CODES["unspecified"])
        return Unknown()

    async def _responder(self, authority: Authority) -> _Responder:
        def usable() -> _Responder | None:
            found = self._responders.get(authority.authority_id)
            half = None if found is None else found.not_before + (found.not_after - found.not_before) // 2
            return found if half is not None and self.now() < half else None

        if (found := usable()) is not None:
            return found
        async with self._making:
            if (found := usable()) is None:
                found = self._responders[authority.authority_id] = await self._make(authority)
            return found

    async def _make(self, authority: Authority) -> _Responder:
        """Create a key and have the authority certify it. Raises `LookupError` when the authority's key is destroyed."""
        seed, seed_id = self.random(serials.SEED_BYTES), self.random(16).hex()
        sealed_seed = self.keystore.seal("seed", seed_id, seed)
        # Neither a halt nor an altered table keeps relying parties from hearing what is revoked.
        request = BlockRequest(authority.authority_id, "ocsp", frozenset(), seed_id, sealed_seed, InProcess())
        sealed = await self.store.read(lambda tx: tx.key(authority.key_id))
        lease = await self.store.write(lambda tx: tx.reserve_block(request))
        signer = self.keystore.open(self.keystore.generate(KeyType.P256))
        not_before = max(self.now() - BACKDATE, authority.not_before)
        not_after = min(self.now() + RESPONDER_LIFETIME, authority.not_after)
        certificate_der = building.build_responder(
            issuer_of(authority, self.url),
            IssuingSigner(self.keystore.open(sealed)),
            signer.spki,
            serials.serial(lease.block_id, seed, 0),
            not_before=not_before,
            not_after=not_after,
        )
        if findings := await asyncio.to_thread(self.linter.certificate, certificate_der):
            raise lint_findings("ocsp", findings)
        return _Responder(signer, certificate_der, not_before, not_after)


def _nonce(request: ocsp.OCSPRequest) -> bytes | None:
    for extension in request.extensions:
        if extension.oid == OCSPExtensionOID.NONCE:
            nonce: bytes = extension.value.nonce
            if not 1 <= len(nonce) <= MAX_NONCE_BYTES:
                raise errors.FieldInvalid(f"a nonce of {len(nonce)} bytes")
            return nonce
    return None


def _refused(status: ocsp.OCSPResponseStatus) -> Answer:
    return Answer(building.refusal(status), cacheable=False)
