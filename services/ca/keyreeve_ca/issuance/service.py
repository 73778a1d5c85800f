"""The signing path: requests become certificates, and none leaves before it is in the ledger.

The order of one certificate (docs/signing.md): a serial number from a block that is on disk -> policy -> build -> check the
final TBSCertificate -> sign -> parse back -> commit through the gate with everything else that has arrived -> answer.
All of it but the two durable steps runs without waiting, so whatever arrives during one commit forms the next group.
"""

import asyncio
import json
import logging
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from keyreeve import errors
from keyreeve.identity import Caller
from keyreeve.values import Name
from keyreeve_ca.certificates import serials
from keyreeve_ca.certificates.final_check import check_signed
from keyreeve_ca.certificates.plan import CertificatePlan
from keyreeve_ca.halt.service import issuance_halted
from keyreeve_ca.issuance.batching import MAX_IN_PROGRESS, Batching, price
from keyreeve_ca.issuance.commit_queue import MAX_FAILURE_CHARACTERS, CommitQueues
from keyreeve_ca.issuance.policy import check_own_name, check_requester, plan_certificate
from keyreeve_ca.issuance.snapshot import IssuanceSnapshot, IssuingAuthority
from keyreeve_ca.ledger.ports import (
    AlreadyAnswered,
    AuditRecord,
    Committed,
    GateClosed,
    IssuedCertificate,
    ItemFailure,
    Ledger,
    Origin,
    RequestClaim,
    RequestOutcome,
    SerialBlock,
)
from keyreeve_ca.requests.csr import CertificateRequest, check_possession, read_csr
from keyreeve_ca.store.ports import Answered, Store, StoredCertificate
from keyreeve_chassis.guard.admission import FairShare
from keyreeve_chassis.idempotency.ports import request_id_reused
from keyreeve_chassis.keys.ports import KeyStore
from keyreeve_chassis.trust_tables.ports import AlteredTables, table_altered

MAX_MESSAGE_CHARACTERS = 400
"""Of one text in what is kept of a refused item."""
RETRY_AFTER = timedelta(milliseconds=200)
_SIGNED_AT_ONCE = 4
"""A request for more certificates uses the commit queue of the long ones."""
_ATTEMPTS = 3
"""How often a request is signed again after the gate has refused its group."""

_WRONG_FOR_EVER = (errors.CsrMalformed, errors.CsrTooLarge, errors.CsrSignatureInvalid)
"""What no earlier request with the same bytes can have been answered otherwise: nothing needs to be looked up."""

LedgerEntry = IssuedCertificate | StoredCertificate
Outcome = LedgerEntry | errors.KeyreeveError

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SignItem:
    """What one item of a request asks for."""

    profile: str
    csr: bytes
    names: tuple[Name, ...] = ()
    lifetime: timedelta | None = None
    authority: str | None = None
    common_name: str | None = None

    @property
    def size(self) -> int:
        """Bytes that are read for it."""
        return len(self.csr) + sum(len(name.value) for name in self.names)


@dataclass(frozen=True, slots=True)
class SignRequest:
    """One request: who asks, under which id, for what."""

    caller: Caller
    origin: Origin
    request_id: str
    payload_sha256: bytes
    items: tuple[SignItem, ...]
    record: AuditRecord | None = None
    """The audit record of the call that asks; None for what the service does by itself."""
    batch: bool = False
    """Answered item by item."""
    prepare: Callable[[SignItem, IssuanceSnapshot, int], "Prepared"] | None = None
    """How an item becomes a plan; None: as a first certificate. Renewal brings its own rules."""

    @property
    def price(self) -> int:
        """What it counts among the requests in progress."""
        return price(item.size for item in self.items)


@dataclass(frozen=True, slots=True)
class Prepared:
    """An item that policy has accepted."""

    plan: CertificatePlan
    csr: CertificateRequest
    issuing: IssuingAuthority
    item: SignItem
    renews: bytes | None = None


@dataclass
class Issuance:
    """The signing path of one process. Not frozen: it holds the leased blocks and the groups that wait."""

    snapshot: Callable[[], IssuanceSnapshot]
    reload: Callable[[], Awaitable[None]]
    """Reloads the snapshot; called when the gate reports that it is out of date."""
    trust: AlteredTables
    """What this process knows of altered trust tables; nothing is issued meanwhile."""
    store: Store
    ledger: Ledger
    keystore: KeyStore
    worker_id: str
    now: Callable[[], int]
    random: Callable[[int], bytes] = os.urandom
    batching: Batching = field(default_factory=lambda: Batching(time.monotonic))
    """Which requests are worked on together, and when."""
    admission: FairShare = field(default_factory=lambda: FairShare("certificates", MAX_IN_PROGRESS, RETRY_AFTER))
    """What is in progress here, and for each caller, by price: about one for each certificate."""
    commit_queues: CommitQueues = field(init=False)
    """Its blocks, and the claims that wait for their commit."""

    def __post_init__(self) -> None:
        self.commit_queues = CommitQueues(self.snapshot, self.ledger, self.keystore, self.worker_id, self.random)

    async def sign(self, request: SignRequest) -> list[Outcome]:
        """Sign every item of a request; one outcome per item, in order.

        Idempotent by (caller, method, request_id): a repeat answers what the first answered, even if it would be refused
        now. Raises `RequestIdReused` for another payload under the same id, `IssuanceHalted`, `TooManyInFlight`, and
        `StoreUnavailable` when nothing is known.
        """
        caller, size = str(request.caller), request.price
        self.admission.enter(caller, size)
        try:
            for attempt in range(1, _ATTEMPTS + 1):
                try:
                    return await self._sign_once(request, caller)
                except GateClosed as closed:
                    log.warning("the commit gate refused a group (%s), attempt %d", closed.why, attempt)
                    await self.reload()
        finally:
            self.admission.leave(caller, size)
        raise errors.StoreUnavailable("the authority or profile changed while the request was being signed")

    async def _sign_once(self, request: SignRequest, caller: str) -> list[Outcome]:
        """One attempt. Raises `GateClosed` when what was signed may not enter the ledger."""
        if self._stop_for(request) is not None:
            answered = await self._answered(request)
            if answered is not None:
                return await self.recall(answered, request.payload_sha256, request.request_id)
            if (stopped := self._stop_for(request)) is not None:
                raise stopped
        async with self.batching.join(caller, request.price):
            prepared = await self._prepare_all(request)
            committed = await self._sign_accepted(request, prepared) if _all_accepted(prepared) else None
        if committed is None:
            return await self._sign_what_is_not_refused(request, caller, prepared)
        return await self._outcomes(request, *await committed)

    async def _sign_what_is_not_refused(
        self, request: SignRequest, caller: str, prepared: list[Prepared | errors.KeyreeveError]
    ) -> list[Outcome]:
        """The rest of an attempt in which an item is refused.

        A repeat of a request that was answered must not be refused, nor one that only this process refuses because it has
        not yet heard of a change to an authority or a profile.
        """
        if len(prepared) == 1 and isinstance(prepared[0], _WRONG_FOR_EVER):
            return [prepared[0]]
        known = self.snapshot()
        answered = await self._answered(request)
        if answered is not None:
            return await self.recall(answered, request.payload_sha256, request.request_id)
        committed = None
        if known is not self.snapshot() or any(isinstance(p, Prepared) for p in prepared):
            async with self.batching.join(caller, request.price):
                if known is not self.snapshot():
                    prepared = await self._prepare_all(request)
                committed = await self._sign_accepted(request, prepared)
        if committed is None:
            return [p for p in prepared if isinstance(p, errors.KeyreeveError)]
        return await self._outcomes(request, *await committed)

    def _stop_for(self, request: SignRequest) -> errors.KeyreeveError | None:
        """Why nothing is issued for this request now, because of a halt or altered tables; None: it is."""
        if request.origin.exemption is not None:
            return None
        if (since := self.snapshot().halted_since) is not None:
            return issuance_halted(since)
        return table_altered(self.trust.found) if self.trust.found else None

    async def _answered(self, request: SignRequest) -> Answered | None:
        """The stored answer of the request; reloads the snapshot when it lags behind that."""
        answered, newest = await self.store.read(
            lambda tx: tx.answered_and_version(request.caller.claimant, request.origin.method, request.request_id),
            one_statement=True,
        )
        if answered is None and newest != self.snapshot().config_version:
            await self.reload()
        return answered

    async def close_blocks(self) -> None:
        """Close the blocks in hand at an orderly end, so that they do not count as crashed."""
        await self.commit_queues.close_blocks()

    async def _prepare_all(self, request: SignRequest) -> list[Prepared | errors.KeyreeveError]:
        """Prepare every item; in between, the event loop looks at what else there is, such as small calls and streams."""
        prepared: list[Prepared | errors.KeyreeveError] = []
        part = self.batching.part()
        for item in request.items:
            await part.take(item.size)
            prepared.append(self._prepare(item, request))
        return prepared

    def _prepare(self, item: SignItem, request: SignRequest) -> Prepared | errors.KeyreeveError:
        try:
            return (request.prepare or self._first_certificate(request.caller))(item, self.snapshot(), self.now())
        except errors.KeyreeveError as refused:
            return refused

    @staticmethod
    def _first_certificate(caller: Caller) -> Callable[[SignItem, IssuanceSnapshot, int], Prepared]:
        def prepare(item: SignItem, snapshot: IssuanceSnapshot, now: int) -> Prepared:
            version = snapshot.profile(item.profile)
            check_requester(version, caller.role)
            snapshot.issuing_authorities(version, item.authority)  # a wrong authority is told before the CSR is read
            csr = read_csr(item.csr)
            issuing, plan = snapshot.plan_with_issuer(
                version,
                item.authority,
                lambda issuer: plan_certificate(
                    version,
                    csr,
                    extra_names=item.names,
                    common_name=item.common_name,
                    lifetime=item.lifetime,
                    now=now,
                    issuer=issuer,
                    trust_domain=snapshot.trust_domain,
                    known=snapshot.known_keys,
                ),
            )
            check_own_name(caller, plan.names)
            check_possession(csr)
            return Prepared(plan, csr, issuing, item)

        return prepare

    async def _sign_accepted(
        self, request: SignRequest, prepared: Sequence[Prepared | errors.KeyreeveError]
    ) -> "Awaitable[tuple[RequestClaim, RequestOutcome]] | None":
        """Sign the items that were accepted; what is left is to wait for their commit. None: no item was."""
        issuing = next((p.issuing for p in prepared if isinstance(p, Prepared)), None)
        if issuing is None:
            return None
        if len(prepared) <= _SIGNED_AT_ONCE:
            claim, done = await self._sign_all(request, prepared, issuing)
            if request.record is not None:
                request.record.entrusted = done
            return _committed(claim, done)
        signed = asyncio.Event()

        async def sign_and_commit() -> tuple[RequestClaim, RequestOutcome]:
            try:
                claim, done = await self._sign_all(request, prepared, issuing)
            finally:
                signed.set()
            return await _committed(claim, done)

        # A task of its own, since the numbers that it has used must reach the ledger whether the caller waits or not.
        task = asyncio.create_task(sign_and_commit())
        if request.record is not None:
            request.record.entrusted = task
        await signed.wait()
        return asyncio.shield(task)

    async def _sign_all(
        self,
        request: SignRequest,
        prepared: Sequence[Prepared | errors.KeyreeveError],
        issuing: IssuingAuthority,
    ) -> tuple[RequestClaim, "asyncio.Future[RequestOutcome]"]:
        """Sign every item that was accepted, and let the whole wait for its commit."""
        hashes = frozenset(p.plan.profile.sha256 for p in prepared if isinstance(p, Prepared))
        authority_id = issuing.issuer.authority_id
        size, long, part = 0, len(prepared) > _SIGNED_AT_ONCE, self.batching.part()
        commit_queue = self.commit_queues.of(authority_id, long=long)
        items: list[IssuedCertificate | ItemFailure] = []
        async with commit_queue.signing:
            block = await self.commit_queues.block_with_room(
                commit_queue, issuing, hashes, len(prepared), exemption=request.origin.exemption
            )
            for p in prepared:
                if isinstance(p, errors.KeyreeveError):
                    items.append(_failure(p))
                elif p.issuing.issuer.authority_id != authority_id:
                    items.append(_failure(_another_authority(p, issuing)))
                else:
                    if long:  # one that has no task of its own must not be cancelled once it has used a number
                        await part.take(p.item.size)
                    size += 1
                    try:
                        items.append(self._sign(p, request, block, commit_queue.next_counter()))
                    except errors.KeyreeveError as refused:
                        log.exception("a certificate did not pass its check", extra={"request_id": request.request_id})
                        items.append(_failure(refused))
            claim = RequestClaim(
                caller=request.caller.claimant,
                origin=request.origin,
                request_id=request.request_id,
                payload_sha256=request.payload_sha256,
                items=tuple(items),
                audit=b"" if request.record is None else request.record.head,
                batch=request.batch,
            )
            return claim, self.commit_queues.enqueue(commit_queue, block, size, hashes, claim)

    def _sign(self, p: Prepared, request: SignRequest, block: SerialBlock, counter: int) -> IssuedCertificate:
        snapshot = self.snapshot()
        plan, issuing = p.plan, p.issuing
        serial = serials.serial(block.block_id, block.seed, counter)
        issuance_template = snapshot.issuance_template(plan.profile, issuing)
        tbs = issuance_template.template.tbs(plan, serial, block.crl_shard)
        checked = issuance_template.check.check_tbs(tbs, plan, serial, block.crl_shard)
        der = issuance_template.template.certificate(tbs, issuing.signer.sign(checked))
        check_signed(der, tbs)
        return IssuedCertificate(
            serial=serial,
            authority_id=issuing.issuer.authority_id,
            profile_name=plan.profile.name,
            profile_version=plan.profile.version,
            caller=str(request.caller),
            request_id=request.request_id,
            identity=_identity_of(plan),
            spki_sha256=p.csr.spki_sha256,
            not_before=plan.not_before,
            not_after=plan.not_after,
            issued_at=self.now(),
            der=der,
            csr=p.csr.der,
            requested_sans=json.dumps([[n.type, n.value] for n in p.item.names]) if p.item.names else "[]",
            requested_lifetime_seconds=None if p.item.lifetime is None else int(p.item.lifetime.total_seconds()),
            requested_common_name=p.item.common_name,
            ignored=json.dumps(plan.ignored) if plan.ignored else "[]",
            renews=p.renews,
            binds_key=plan.profile.profile.one_identity_per_key,
        )

    async def _outcomes(self, request: SignRequest, claim: RequestClaim, outcome: RequestOutcome) -> list[Outcome]:
        match outcome:
            case Committed(items):
                ours = {i.serial: i for i in claim.items if isinstance(i, IssuedCertificate)}
                return await self._entries(items, ours)
            case AlreadyAnswered(payload_sha256, items):
                if payload_sha256 != request.payload_sha256:
                    raise request_id_reused(request.request_id)
                return await self._entries(items, {})

    async def recall(self, answered: Answered, payload_sha256: bytes, request_id: str) -> list[Outcome]:
        """What an earlier request of this id was answered. Raises `RequestIdReused` for another payload."""
        if answered.payload_sha256 != payload_sha256 or answered.items is None:
            raise request_id_reused(request_id)
        return await self._entries(answered.items, {})

    async def _entries(
        self, items: Sequence[bytes | ItemFailure], ours: dict[bytes, IssuedCertificate]
    ) -> list[Outcome]:
        """Serial numbers as ledger entries: those at hand, and the others read back."""
        missing = [i for i in items if isinstance(i, bytes) and i not in ours]
        stored = await self.store.read(lambda tx: tx.certificates_by_serial(missing)) if missing else {}
        return [
            (ours.get(i) or stored[i])
            if isinstance(i, bytes)
            else errors.from_reason(i.reason, i.message, metadata=i.metadata)
            for i in items
        ]


async def _committed(
    claim: RequestClaim, done: "asyncio.Future[RequestOutcome]"
) -> tuple[RequestClaim, RequestOutcome]:
    return claim, await asyncio.shield(done)


def _all_accepted(prepared: Sequence[Prepared | errors.KeyreeveError]) -> bool:
    """Whether policy has refused no item."""
    return all(isinstance(p, Prepared) for p in prepared)


def _identity_of(plan: CertificatePlan) -> str:
    """The subject's identity in the ledger: the URI if there is one, else the first name."""
    return next((name.value for name in plan.names if name.type == "uri"), plan.names[0].value)


def _failure(refused: errors.KeyreeveError) -> ItemFailure:
    """What the ledger and a batch's answer keep of a refusal: enough to act on, however much was wrong."""
    metadata = {v.field: v.description for v in refused.violations} | refused.metadata
    kept: dict[str, str] = {}
    room = MAX_FAILURE_CHARACTERS - MAX_MESSAGE_CHARACTERS
    for key, value in metadata.items():
        text = value[:MAX_MESSAGE_CHARACTERS]
        room -= len(key) + len(text)
        if room < 0:
            kept["omitted"] = str(len(metadata) - len(kept))
            break
        kept[key] = text
    return ItemFailure(refused.reason, refused.message[:MAX_MESSAGE_CHARACTERS], kept)


def _another_authority(p: Prepared, issuing: IssuingAuthority) -> errors.KeyreeveError:
    return errors.FieldInvalid(
        f"authority {p.issuing.issuer.authority_id!r} would sign this item, and {issuing.issuer.authority_id!r} the first; "
        "send items of different authorities in different requests",
        metadata={"authority": p.issuing.issuer.authority_id},
    )
