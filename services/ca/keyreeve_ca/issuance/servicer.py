"""CertificateService: access rules, and messages to values and back."""

import hashlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from functools import partial

from google.protobuf.timestamp_pb2 import Timestamp

from keyreeve import errors
from keyreeve.ca.v1 import certificate_service_pb2 as pb
from keyreeve.identity import ALL_ROLES, INNER_SERVICE_ROLES, OPERATOR_ROLES, SELF_ROLES, Caller, Role
from keyreeve.operations.v1 import operation_service_pb2 as operation_pb
from keyreeve_ca.blocked_keys.service import KeyBlocking
from keyreeve_ca.issuance.batching import price
from keyreeve_ca.issuance.renewal import Proof, Renewal, certificate_not_found
from keyreeve_ca.issuance.service import Issuance, LedgerEntry, Outcome, SignItem, SignRequest
from keyreeve_ca.issuance.snapshot import IssuanceSnapshot
from keyreeve_ca.ledger.ports import Rpc
from keyreeve_ca.messages import (
    CRL_REASONS,
    blocked_key_message,
    certificate_message,
    chain_of,
    ignored_of,
    key_hash_of,
    renew_at,
    serial_of,
    shard_of,
    sign_item,
)
from keyreeve_ca.operators.dual_control import actor_of
from keyreeve_ca.revocation.bulk import BulkRevocation, Predicate
from keyreeve_ca.revocation.ports import Revocation
from keyreeve_ca.revocation.scopes import list_to_publish
from keyreeve_ca.revocation.service import Revoking
from keyreeve_ca.revocation.watching import RevocationWatches
from keyreeve_ca.store.ports import (
    CertificateFilter,
    CertificatePage,
    Store,
    StoredCertificate,
    Transaction,
    newest_first_position,
)
from keyreeve_chassis.guard.access import AccessRule, AccessRules, Freshness
from keyreeve_chassis.guard.call import (
    Call,
    caller_of,
    chosen,
    id_of,
    invalid,
    payload_sha256,
    printable,
    request_id_of,
    timestamp,
)
from keyreeve_chassis.guard.costly_reads import CostlyReads
from keyreeve_chassis.guard.paging import Pages
from keyreeve_chassis.idempotency.mutation import Mutations
from keyreeve_chassis.operations.servicer import operation_message

MAX_ITEMS = 100
_SERVICE = "/keyreeve.ca.v1.CertificateService/"
_SIGNERS = frozenset({Role.ADMIN, Role.OPERATOR, Role.WORKLOAD, Role.MEMBER}) | INNER_SERVICE_ROLES
_SEE_ALL = OPERATOR_ROLES | INNER_SERVICE_ROLES

ACCESS: AccessRules = {
    _SERVICE + "SignCertificate": AccessRule(_SIGNERS, records=("item.profile", "item.authority", "item.names.value")),
    _SERVICE + "SignCertificates": AccessRule(
        _SIGNERS, batches=True, records=("items.profile", "items.authority", "items.names.value")
    ),
    _SERVICE + "RenewCertificate": AccessRule(ALL_ROLES, freshness=Freshness.TOLERANT),
    _SERVICE + "GetCertificate": AccessRule(SELF_ROLES, freshness=Freshness.TOLERANT),
    _SERVICE + "ListCertificates": AccessRule(
        _SEE_ALL | {Role.WORKLOAD},
        freshness=Freshness.TOLERANT,
        records=("authority", "profile", "identity", "requester", "state"),
    ),
    _SERVICE + "WatchRevokedCertificates": AccessRule(
        frozenset({Role.ADMIN, Role.WORKLOAD}), long_stream=True, freshness=Freshness.TOLERANT
    ),
    _SERVICE + "RevokeCertificate": AccessRule(SELF_ROLES, forwarded=True, records=("name", "reason", "lineage")),
    _SERVICE + "BlockKey": AccessRule(
        frozenset({Role.ADMIN, Role.OPERATOR}), forwarded=True, records=("spki_sha256", "reason")
    ),
    _SERVICE + "ListBlockedKeys": AccessRule(_SEE_ALL, freshness=Freshness.TOLERANT),
    _SERVICE + "UnblockKey": AccessRule(frozenset({Role.ADMIN}), forwarded=True),
    _SERVICE + "RevokeCertificates": AccessRule(
        frozenset({Role.ADMIN, Role.MEMBERSHIP}),
        forwarded=True,
        records=("authority", "profile", "identity", "requester", "reason"),
    ),
    _SERVICE + "GetRevocationList": AccessRule(SELF_ROLES, freshness=Freshness.EXEMPT),
}
_ORIGINS = {method: Rpc(method) for method in ACCESS}


@dataclass(frozen=True)
class CertificateServicer:
    """Serves CertificateService."""

    issuance: Issuance
    renewal: Renewal
    revoking: Revoking
    bulk: BulkRevocation
    blocking: KeyBlocking
    store: Store
    mutations: Mutations[Transaction]
    snapshot: Callable[[], IssuanceSnapshot]
    pages: Pages
    now: Callable[[], int]
    watches: RevocationWatches
    costly: CostlyReads = field(default_factory=CostlyReads)

    async def SignCertificate(self, request: pb.SignCertificateRequest, call: Call) -> pb.SignCertificateResponse:
        [outcome] = await self._sign(call, request, request.request_id, (sign_item(request.item, "item"),))
        if isinstance(outcome, errors.KeyreeveError):
            raise outcome
        return self._response(outcome)

    async def SignCertificates(self, request: pb.SignCertificatesRequest, call: Call) -> pb.SignCertificatesResponse:
        if not 1 <= len(request.items) <= MAX_ITEMS:
            raise invalid("items", f"1 to {MAX_ITEMS} items are required, not {len(request.items)}")
        self.issuance.admission.refuse_beyond(str(caller_of(call)), price(item.ByteSize() for item in request.items))
        items = tuple(sign_item(item, f"items[{i}]") for i, item in enumerate(request.items))
        outcomes = await self._sign(call, request, request.request_id, items)
        signed_by = {o.authority_id for o in outcomes if not isinstance(o, errors.KeyreeveError)}
        snapshot = self.snapshot()
        return pb.SignCertificatesResponse(
            outcomes=[_outcome(o) for o in outcomes],
            chains=[
                pb.AuthorityChain(authority=f"authorities/{a}", chain_der=chain_of(snapshot, a))
                for a in sorted(signed_by)
            ],
        )

    async def RenewCertificate(self, request: pb.RenewCertificateRequest, call: Call) -> pb.SignCertificateResponse:
        proof = Proof(request.proof.nonce, request.proof.signature) if request.HasField("proof") else None
        # The proof is no part of what is asked for: a repeat after a lost answer comes with a fresh nonce.
        asked = pb.RenewCertificateRequest(name=request.name, csr=request.csr)
        entry = await self.renewal.renew(
            caller=caller_of(call),
            method=call.method,
            request_id=request_id_of(request.request_id),
            payload_sha256=payload_sha256(asked),
            serial=serial_of(request.name),
            csr=request.csr,
            proof=proof,
            record=call.record,
        )
        return self._response(entry)

    async def GetCertificate(self, request: pb.GetCertificateRequest, call: Call) -> pb.Certificate:
        serial = serial_of(request.name)
        try:
            entry, revoked = await self.store.read(lambda tx: tx.certificate_and_revocation(serial), one_statement=True)
        except errors.CertificateNotFound:
            raise certificate_not_found(serial) from None
        if not _may_see(caller_of(call), entry):
            raise certificate_not_found(serial)
        return certificate_message(entry, self.now(), revoked)

    async def RevokeCertificate(self, request: pb.RevokeCertificateRequest, call: Call) -> pb.Certificate:
        serial, reason = serial_of(request.name), chosen(CRL_REASONS, request.reason, "reason")
        caller = caller_of(call)
        lineage = request.lineage if request.HasField("lineage") else None

        def revoke(tx: Transaction) -> pb.Certificate:
            entry, revocation = self.revoking.revoke(tx, caller, serial, reason, lineage=lineage)
            return certificate_message(entry, self.now(), revocation)

        return await self.mutations(call, request, revoke)

    async def BlockKey(self, request: pb.BlockKeyRequest, call: Call) -> pb.BlockedKey:
        if len(request.spki_sha256) != hashlib.sha256().digest_size:
            raise invalid("spki_sha256", "32 bytes: the SHA-256 of a DER SubjectPublicKeyInfo")
        reason = printable(request.reason, "reason")
        return await self.mutations(
            call,
            request,
            lambda tx: blocked_key_message(
                self.blocking.block(tx, actor_of(tx, str(caller_of(call))), request.spki_sha256, reason)
            ),
        )

    async def ListBlockedKeys(self, request: pb.ListBlockedKeysRequest, call: Call) -> pb.ListBlockedKeysResponse:
        page = self.pages.open(call, request)
        after = bytes.fromhex(page.after)
        rows = await self.store.read(lambda tx: tx.blocked_keys.page(after=after, limit=page.size + 1))
        last = rows[page.size - 1].spki_sha256.hex() if len(rows) > page.size else None
        return pb.ListBlockedKeysResponse(
            blocked_keys=[blocked_key_message(row) for row in rows[: page.size]],
            next_page_token=page.next_token(last),
        )

    async def UnblockKey(self, request: pb.UnblockKeyRequest, call: Call) -> pb.BlockedKey:
        spki_sha256 = key_hash_of(request.name)
        return await self.mutations(
            call,
            request,
            lambda tx: blocked_key_message(self.blocking.unblock(tx, actor_of(tx, str(caller_of(call))), spki_sha256)),
        )

    async def RevokeCertificates(self, request: pb.RevokeCertificatesRequest, call: Call) -> operation_pb.Operation:
        reason, caller = chosen(CRL_REASONS, request.reason, "reason"), caller_of(call)
        predicate = Predicate(
            authority_id=id_of(request.authority, "authorities", "authority") if request.authority else None,
            profile_name=id_of(request.profile, "profiles", "profile") if request.profile else None,
            identity=request.identity or None,
            caller=request.requester or None,
            issued_from=_end(request.issued_from_time) if request.HasField("issued_from_time") else None,
            issued_before=_end(request.issued_before_time) if request.HasField("issued_before_time") else None,
        )
        return await self.mutations(
            call, request, lambda tx: operation_message(self.bulk.begin(tx, caller, predicate, reason))
        )

    async def GetRevocationList(self, request: pb.GetRevocationListRequest, call: Call) -> pb.RevocationList:
        shard = shard_of(request.name)
        shard = list_to_publish(self.snapshot().authorities.get(shard[0]), shard)
        found = await self.store.read(lambda tx: tx.revocations.published_list(shard))
        if found is None:
            raise errors.RevocationListNotFound(f"there is no list {request.name!r}", metadata={"name": request.name})
        return pb.RevocationList(
            name=request.name,
            number=found.state.number,
            this_update_time=timestamp(found.state.this_update),
            next_update_time=timestamp(found.state.next_update),
            entries=found.entries,
            crl_der=found.der,
        )

    async def WatchRevokedCertificates(
        self, request: pb.WatchRevokedCertificatesRequest, call: Call
    ) -> AsyncIterator[pb.RevokedCertificatesUpdate]:
        if min(request.restore_generation, request.after_seq) < 0:
            raise invalid("after_seq", "must not be negative")
        position, caller = (request.restore_generation, request.after_seq), caller_of(call)
        async for update in self.watches.watch(position, partial(_may_see, caller), partial(self.costly.read, call)):
            yield pb.RevokedCertificatesUpdate(
                restore_generation=update.restore_generation,
                seq=update.seq,
                certificates=[certificate_message(one, self.now(), revoked) for one, revoked in update.certificates],
            )

    async def ListCertificates(self, request: pb.ListCertificatesRequest, call: Call) -> pb.ListCertificatesResponse:
        caller, now = caller_of(call), self.now()
        of_requester = caller.role not in _SEE_ALL and request.identity != str(caller)
        wanted = CertificateFilter(
            authority_id=id_of(request.authority, "authorities", "authority") if request.authority else None,
            profile_name=id_of(request.profile, "profiles", "profile") if request.profile else None,
            identity=printable(request.identity, "identity") or None,
            caller=str(caller) if of_requester else (printable(request.requester, "requester") or None),
            valid_at=now if request.state == pb.CERTIFICATE_STATE_VALID else None,
            expired_at=now if request.state == pb.CERTIFICATE_STATE_EXPIRED else None,
            expires_before=_end(request.expire_before_time) if request.HasField("expire_before_time") else None,
            revoked=(request.state == pb.CERTIFICATE_STATE_REVOKED) if request.state else None,
        )
        page = self.pages.open(call, request)
        after = bytes.fromhex(page.after)

        def read(tx: Transaction) -> tuple[CertificatePage, dict[bytes, Revocation]]:
            read_page = tx.newest_page if request.newest_first else tx.certificate_page
            found = read_page(wanted, after=after, limit=page.size + 1)
            return found, tx.revocations.of([row.serial for row in found.rows])

        found, revoked = await self.costly.read(call, lambda: self.store.read(read))
        rows = found.rows
        last = found.next
        if len(rows) > page.size:
            last = newest_first_position(rows[page.size - 1]) if request.newest_first else rows[page.size - 1].serial
        return pb.ListCertificatesResponse(
            certificates=[certificate_message(row, now, revoked.get(row.serial)) for row in rows[: page.size]],
            next_page_token=page.next_token(None if last is None else last.hex()),
        )

    async def _sign(
        self,
        call: Call,
        request: pb.SignCertificateRequest | pb.SignCertificatesRequest,
        request_id: str,
        items: tuple[SignItem, ...],
    ) -> list[Outcome]:
        return await self.issuance.sign(
            SignRequest(
                caller=caller_of(call),
                origin=_ORIGINS[call.method],
                request_id=request_id_of(request_id),
                payload_sha256=payload_sha256(request),
                items=items,
                record=call.record,
                batch=isinstance(request, pb.SignCertificatesRequest),
            )
        )

    def _response(self, entry: LedgerEntry) -> pb.SignCertificateResponse:
        return pb.SignCertificateResponse(
            certificate=certificate_message(entry, self.now()),
            chain_der=chain_of(self.snapshot(), entry.authority_id),
            renew_time=timestamp(renew_at(entry)),
        )


def _end(time: Timestamp) -> int:
    """Return the first whole second at or after `time`; certificates end on whole seconds."""
    return time.seconds + (time.nanos > 0)


def _may_see(caller: Caller, entry: StoredCertificate) -> bool:
    return caller.role in _SEE_ALL or str(caller) in (entry.caller, entry.identity)


def _outcome(outcome: Outcome) -> pb.SignCertificateOutcome:
    if isinstance(outcome, errors.KeyreeveError):
        metadata = {**{v.field: v.description for v in outcome.violations}, **outcome.metadata}
        return pb.SignCertificateOutcome(
            error=pb.ItemError(reason=outcome.reason, message=outcome.message, metadata=metadata)
        )
    return pb.SignCertificateOutcome(
        signed=pb.SignedCertificate(
            name=f"certificates/{outcome.serial.hex()}",
            certificate_der=outcome.der,
            authority=f"authorities/{outcome.authority_id}",
            ignored=ignored_of(outcome),
            renew_time=timestamp(renew_at(outcome)),
        )
    )
