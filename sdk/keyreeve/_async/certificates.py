"""Certificates: sign, renew, look up."""

from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from keyreeve import wire
from keyreeve._async import runtime
from keyreeve._async.calls import Caller
from keyreeve._async.coalescing import SIGN_MANY, Coalescer
from keyreeve.ca.v1 import certificate_service_pb2 as pb
from keyreeve.errors import FieldInvalid, InvitationExpired, KeyreeveError, RenewalProofRequired
from keyreeve.keys import PrivateKey, csr_spki, renewal_message, sign_renewal
from keyreeve.operation_values import Operation
from keyreeve.operation_wire import from_operation
from keyreeve.operations.v1 import operation_service_pb2 as operation_pb
from keyreeve.request_container import is_private_key, request_der
from keyreeve.request_ids import new_request_id
from keyreeve.values import (
    BlockedKey,
    Certificate,
    CertificateState,
    CrlReason,
    Name,
    RevocationList,
    RevokedCertificates,
    SignedCertificate,
    SignItem,
)

_SERVICE = "/keyreeve.ca.v1.CertificateService"

Outcomes = list[SignedCertificate | KeyreeveError]
"""One for each item of a batch, in order: the certificate, or the error of that item."""


class CertificateClient:
    """Signing, and the ledger of issued certificates.

    Reached as `Client.certificates`.

    Resources may be named in full (`profiles/server`) or by their last part (`server`). `request_id` makes a mutation
    idempotent: one is made for each call unless given, and kept over its retries. Every method raises `keyreeve.errors`
    and takes a `timeout` in seconds over all its attempts.
    """

    def __init__(self, caller: Caller, trust_domain: str, *, coalesce: bool = True) -> None:
        self._caller = caller
        self._coalesce = coalesce
        self._coalescer = Coalescer(caller)
        self._trust_domain = trust_domain

    async def sign(
        self,
        profile: str,
        csr: bytes,
        *,
        names: Sequence[Name] = (),
        lifetime: timedelta | None = None,
        authority: str | None = None,
        common_name: str | None = None,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> SignedCertificate:
        """Have a certificate signed for a CSR (PKCS #10, DER or PEM).

        `names` are requested beside those in the CSR; `lifetime` is the profile's default and `authority` the newest active
        one of its hierarchy unless given; `common_name` replaces the CSR's CN. What the profile does not grant of the CSR
        is left out and listed in `SignedCertificate.ignored`; a name that it does not allow refuses the request. A private
        key in `csr` raises `keyreeve.errors.CsrMalformed`, and nothing is sent.

        Concurrent calls, of tasks or threads that share the client, are sent together unless the client was made with
        `coalesce=False` (docs/sdk.md). A call with a `request_id` of its own is always sent by itself.
        """
        item = wire.to_item(SignItem(profile, _sendable(csr), tuple(names), lifetime, authority, common_name))
        if self._coalesce and not request_id:
            return await self._coalescer.sign(item, timeout)
        return await self._coalescer.sign_alone(item, request_id or new_request_id(), timeout)

    async def sign_many(
        self, items: Sequence[SignItem], request_id: str | None = None, *, timeout: float | None = None
    ) -> Outcomes:
        """Have 1 to 100 certificates signed in one call.

        Each item succeeds or fails on its own: the result has a certificate or an error for each, in order. Only errors of
        the whole call are raised.
        """
        request = pb.SignCertificatesRequest(
            items=[wire.to_item(replace(item, csr=_sendable(item.csr))) for item in items],
            request_id=request_id or new_request_id(),
        )
        response = await self._caller.unary(SIGN_MANY, request, pb.SignCertificatesResponse, timeout)
        return wire.from_outcomes(response)

    async def renew(
        self,
        serial: str,
        csr: bytes,
        *,
        old_key: PrivateKey | None = None,
        touch: Callable[[bytes], bytes] | None = None,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> SignedCertificate:
        """Renew a certificate for the key of `csr`, with the same profile and names.

        A certificate of the control hierarchy is renewed by its holder, calling with that certificate. Any other is renewed
        by the caller who requested it, and its key, `old_key`, signs the renewal. Without `old_key` that raises
        `keyreeve.errors.RenewalProofRequired`, whose metadata `nonce` is to be signed. For an operator whose last
        invitation has expired, `touch` signs the bytes that it is given with a security key in the operator's record, and
        returns the SSHSIG without its armor. `timeout` is for each of the two calls that this may take.
        """
        name = wire.resource_name("certificates", serial)
        csr = _sendable(csr)
        request = pb.RenewCertificateRequest(name=name, csr=csr, request_id=request_id or new_request_id())
        method = f"{_SERVICE}/RenewCertificate"
        try:
            response = await self._caller.unary(method, request, pb.SignCertificateResponse, timeout)
        except RenewalProofRequired as required:
            if old_key is None:
                raise
            request.proof.CopyFrom(self._proof(old_key, name, csr, required.metadata["nonce"]))
            response = await self._caller.unary(method, request, pb.SignCertificateResponse, timeout)
        except InvitationExpired as required:
            if touch is None or "nonce" not in required.metadata:
                raise
            nonce = required.metadata["nonce"]
            message = renewal_message(
                trust_domain=self._trust_domain, serial=_serial_in(name), new_spki=csr_spki(csr), nonce=nonce
            )
            request.proof.CopyFrom(
                pb.RenewalProof(nonce=nonce, signature=await runtime.run_blocking(lambda: touch(message)))
            )
            response = await self._caller.unary(method, request, pb.SignCertificateResponse, timeout)
        return wire.from_signed(response)

    async def get(self, serial: str, *, timeout: float | None = None) -> Certificate:
        """Look up a certificate in the ledger by its serial number.

        The serial number has 32 lower-case hexadecimal digits.
        """
        request = pb.GetCertificateRequest(name=wire.resource_name("certificates", serial))
        return wire.from_certificate(
            await self._caller.unary(f"{_SERVICE}/GetCertificate", request, pb.Certificate, timeout)
        )

    async def revoke(
        self,
        serial: str,
        reason: CrlReason,
        *,
        lineage: bool | None = None,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> Certificate:
        """Revoke a certificate permanently; a second revocation changes nothing.

        `lineage` also revokes what it renewed and what renewed it; None: only for `CrlReason.KEY_COMPROMISE`, which blocks
        the key as well.
        """
        request = pb.RevokeCertificateRequest(
            name=wire.resource_name("certificates", serial),
            reason=wire.to_number(wire.CRL_REASONS, reason, "reason"),
            request_id=request_id or new_request_id(),
            lineage=lineage,
        )
        return wire.from_certificate(
            await self._caller.unary(f"{_SERVICE}/RevokeCertificate", request, pb.Certificate, timeout)
        )

    async def block_key(
        self, spki_sha256: bytes, reason: str, *, request_id: str | None = None, timeout: float | None = None
    ) -> BlockedKey:
        """Block a key for good: no certificate is issued for it. `spki_sha256` is of its DER SubjectPublicKeyInfo."""
        request = pb.BlockKeyRequest(spki_sha256=spki_sha256, reason=reason, request_id=request_id or new_request_id())
        return wire.from_blocked_key(await self._caller.unary(f"{_SERVICE}/BlockKey", request, pb.BlockedKey, timeout))

    async def blocked_keys(
        self, *, page_size: int = 100, timeout: float | None = None
    ) -> AsyncGenerator[BlockedKey, None]:
        """Iterate over the blocked keys, in order of their hashes."""
        request = pb.ListBlockedKeysRequest(page_size=page_size)
        while True:
            method = f"{_SERVICE}/ListBlockedKeys"
            page = await self._caller.unary(method, request, pb.ListBlockedKeysResponse, timeout)
            for message in page.blocked_keys:
                yield wire.from_blocked_key(message)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def unblock_key(
        self, spki_sha256: bytes, *, request_id: str | None = None, timeout: float | None = None
    ) -> BlockedKey:
        """Unblock a key as the second person, or approve that as the first: then it has an `approver`."""
        request = pb.UnblockKeyRequest(
            name=f"blockedKeys/{spki_sha256.hex()}", request_id=request_id or new_request_id()
        )
        return wire.from_blocked_key(
            await self._caller.unary(f"{_SERVICE}/UnblockKey", request, pb.BlockedKey, timeout)
        )

    async def revoke_many(
        self,
        reason: CrlReason,
        *,
        authority: str | None = None,
        profile: str | None = None,
        identity: str | None = None,
        requester: str | None = None,
        issued_from: datetime | None = None,
        issued_before: datetime | None = None,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> Operation:
        """Start revoking all certificates that match every condition given.

        At least one is required.

        It returns an operation that continues in the service: `Client.operations` shows its progress. Times need a time
        zone.
        """
        request = pb.RevokeCertificatesRequest(
            authority="" if authority is None else wire.resource_name("authorities", authority),
            profile="" if profile is None else wire.resource_name("profiles", profile),
            identity=identity or "",
            requester=requester or "",
            issued_from_time=wire.to_timestamp(issued_from, "issued_from"),
            issued_before_time=wire.to_timestamp(issued_before, "issued_before"),
            reason=wire.to_number(wire.CRL_REASONS, reason, "reason"),
            request_id=request_id or new_request_id(),
        )
        method = f"{_SERVICE}/RevokeCertificates"
        return from_operation(await self._caller.unary(method, request, operation_pb.Operation, timeout))

    async def revocation_list(
        self, authority: str, shard: int | None = 0, *, timeout: float | None = None
    ) -> RevocationList:
        """Return the newest CRL of one shard of an authority, or with None its full list.

        The shard is part of a certificate's CRL distribution point, `.../crl/{authority}/{shard}.crl`.
        """
        which = "all" if shard is None else shard
        name = f"{wire.resource_name('authorities', authority)}/revocationLists/{which}"
        request = pb.GetRevocationListRequest(name=name)
        return wire.from_revocation_list(
            await self._caller.unary(f"{_SERVICE}/GetRevocationList", request, pb.RevocationList, timeout)
        )

    async def list(
        self,
        *,
        authority: str | None = None,
        profile: str | None = None,
        identity: str | None = None,
        requester: str | None = None,
        state: CertificateState | None = None,
        expires_before: datetime | None = None,
        newest_first: bool = False,
        page_size: int = 100,
        timeout: float | None = None,
    ) -> AsyncGenerator[Certificate, None]:
        """Iterate over the certificates that match every filter, by serial number or from the newest on.

        Pages are fetched as needed.

        `expires_before` needs a time zone. `timeout` is for each page.
        """
        request = pb.ListCertificatesRequest(
            page_size=page_size,
            authority="" if authority is None else wire.resource_name("authorities", authority),
            profile="" if profile is None else wire.resource_name("profiles", profile),
            identity=identity or "",
            requester=requester or "",
            expire_before_time=wire.to_timestamp(expires_before, "expires_before"),
            newest_first=newest_first,
        )
        if state is not None:
            request.state = wire.to_number(wire.CERTIFICATE_STATES, state, "state")
        while True:
            method = f"{_SERVICE}/ListCertificates"
            page = await self._caller.unary(method, request, pb.ListCertificatesResponse, timeout)
            for message in page.certificates:
                yield wire.from_certificate(message)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def watch_revoked(
        self, restore_generation: int = 0, after_seq: int = 0
    ) -> AsyncGenerator[RevokedCertificates, None]:
        """Iterate over certificates as they are revoked: an admin all, a workload its own and those it requested.

        The first update comes at once: the position, and what was revoked after the given one.

        The stream is opened again whenever it ends, from where it stopped; only a failure before the first update, or one
        that is not transient, is raised.
        """
        request = pb.WatchRevokedCertificatesRequest(restore_generation=restore_generation, after_seq=after_seq)
        method = f"{_SERVICE}/WatchRevokedCertificates"
        async for message in self._caller.follow(method, request, pb.RevokedCertificatesUpdate):
            # The request is sent anew when the stream is opened again.
            request.restore_generation, request.after_seq = message.restore_generation, message.seq
            yield wire.from_revoked_certificates(message)

    def _proof(self, old_key: PrivateKey, name: str, csr: bytes, nonce: str) -> pb.RenewalProof:
        signature = sign_renewal(
            old_key, trust_domain=self._trust_domain, serial=_serial_in(name), new_spki=csr_spki(csr), nonce=nonce
        )
        return pb.RenewalProof(nonce=nonce, signature=signature)


def _sendable(csr: bytes) -> bytes:
    """Return an item's request as it is, unless it holds a private key."""
    return request_der(csr) if is_private_key(csr) else csr


def _serial_in(name: str) -> bytes:
    try:
        return bytes.fromhex(name.removeprefix("certificates/"))
    except ValueError:
        raise FieldInvalid(f"{name!r} does not end in a serial number of hexadecimal digits") from None
