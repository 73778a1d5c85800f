"""`authorities.ports.ArrayAuthorities` over the SDK: the CA service keeps the CAs of arrays."""

import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from keyreeve import aio, values
from keyreeve.caller_values import MemberRecord
from keyreeve.errors import AuthorityExists
from keyreeve_membership.authorities.ports import (
    ArrayAuthority,
    CaState,
    KeyType,
    MemberFact,
    Order,
    PeerCertificate,
)

_NAMESPACE = uuid.UUID("5f0c6c0a-6f6c-4f0e-9d0e-7f0f7a3f3c11")
"""Separates this service's request ids from others that are made of names."""
_KEY_TYPES = {
    KeyType.P256: values.KeyType.P256,
    KeyType.P384: values.KeyType.P384,
    KeyType.RSA3072: values.KeyType.RSA3072,
}


@dataclass(frozen=True)
class CaServiceAuthorities:
    """The CAs of arrays in the CA service."""

    client: aio.Client

    async def create(self, order: Order, authority_id: str, common_name: str, key_type: KeyType) -> ArrayAuthority:
        """Create the authority, or return it as it is."""
        try:
            made = await self.client.authorities.create(
                authority_id,
                hierarchy=values.Hierarchy.STANDALONE,
                kind=values.AuthorityKind.ROOT,
                owner=f"arrays/{order.array_id}",
                common_name=common_name,
                key_type=_KEY_TYPES[key_type],
                order=_order(order),
                request_id=_request_id(order, "create", authority_id),
            )
        except AuthorityExists:  # another leader has made it under another request id
            return await self.get(authority_id)
        return _authority(made)

    async def get(self, authority_id: str) -> ArrayAuthority:
        """Return the authority."""
        return _authority(await self.client.authorities.get(authority_id))

    async def introduce(self, order: Order, authority_id: str) -> ArrayAuthority:
        """Let it sign certificates for checks, and nothing else."""
        found = await self.get(authority_id)
        if found.state is not CaState.PENDING:
            return found
        request_id = _request_id(order, "introduce", authority_id)
        return _authority(
            await self.client.authorities.introduce(authority_id, order=_order(order), request_id=request_id)
        )

    async def activate(self, order: Order, authority_id: str) -> ArrayAuthority:
        """Let it issue."""
        found = await self.get(authority_id)
        if found.state is CaState.ACTIVE:
            return found
        request_id = _request_id(order, "activate", authority_id)
        return _authority(
            await self.client.authorities.activate(authority_id, order=_order(order), request_id=request_id)
        )

    async def retire(self, order: Order, authority_id: str) -> ArrayAuthority:
        """Stop it from issuing."""
        found = await self.get(authority_id)
        if found.state is not CaState.ACTIVE:
            return found
        request_id = _request_id(order, "retire", authority_id)
        return _authority(
            await self.client.authorities.retire(authority_id, order=_order(order), request_id=request_id)
        )

    async def destroy(self, order: Order, authority_id: str) -> ArrayAuthority:
        """Destroy its key, whatever it has issued."""
        found = await self.retire(order, authority_id)
        if found.state is CaState.RETIRED:
            return found
        request_id = _request_id(order, "destroy", authority_id)
        return _authority(
            await self.client.authorities.destroy(
                authority_id, order=_order(order), accept_unexpired=True, request_id=request_id
            )
        )

    async def issue_peer(self, authority_id: str, member: str, csr: bytes, request_id: str) -> PeerCertificate:
        """Issue a peer certificate; the CA holds the request to the name of the server."""
        return await self._sign("array-peer", authority_id, member, csr, request_id)

    async def issue_check(self, authority_id: str, name: str, csr: bytes) -> PeerCertificate:
        """Issue a certificate that is good for a ping of a peer port alone."""
        return await self._sign("peer-check", authority_id, name, csr, str(uuid.uuid4()))

    async def revoke_peer(self, authority_id: str, member: str, *, superseded: bool) -> int:
        """Revoke the valid certificates of a server from this authority; return their number."""
        reason = values.CrlReason.SUPERSEDED if superseded else values.CrlReason.CESSATION_OF_OPERATION
        valid = values.CertificateState.VALID
        return await self._revoke(
            self.client.certificates.list(authority=authority_id, identity=member, state=valid), reason
        )

    async def revoke_checks(self, authority_id: str) -> int:
        """Revoke the valid certificates for checks from this authority; return their number."""
        valid = values.CertificateState.VALID
        found = self.client.certificates.list(authority=authority_id, profile="peer-check", state=valid)
        return await self._revoke(found, values.CrlReason.SUPERSEDED)

    async def _revoke(self, found: AsyncIterator[values.Certificate], reason: values.CrlReason) -> int:
        serials = [one.name async for one in found]
        for serial in serials:
            await self.client.certificates.revoke(serial, reason)
        return len(serials)

    async def count_valid(self, authority_id: str) -> int:
        """How many certificates of members from the authority are neither expired nor revoked.

        Those for checks of peer ports do not count: nothing but a ping is refused to them.
        """
        valid = self.client.certificates.list(
            authority=authority_id, profile="array-peer", state=values.CertificateState.VALID
        )
        return len([one.name async for one in valid])

    async def set_members(self, order: Order, facts: Sequence[MemberFact]) -> None:
        """Have every service know these facts about members of the order's array."""
        trust_domain = self.client.context.trust_domain
        records = [
            MemberRecord(
                one.member_uid,
                f"spiffe://{trust_domain}/members/{one.name}",
                f"arrays/{one.array_id}",
                values.MemberState(one.state),
                one.primary,
                one.removed,
            )
            for one in facts
        ]
        await self.client.trust.set_members(order.array_id, records, order=_order(order))

    async def _sign(self, profile: str, authority_id: str, name: str, csr: bytes, request_id: str) -> PeerCertificate:
        signed = await self.client.certificates.sign(
            profile, csr, names=[values.Name.dns(name)], authority=authority_id, request_id=request_id
        )
        return PeerCertificate(
            signed.name.partition("/")[2],
            signed.certificate_der,
            signed.authority.partition("/")[2],
            int(signed.not_after.timestamp()),
            int(signed.renew_at.timestamp()),
        )


def _order(order: Order) -> values.Order:
    return values.Order(order.number, order.step, order.fence, order.owner_nonce)


def _request_id(order: Order, what: str, authority_id: str) -> str:
    return str(uuid.uuid5(_NAMESPACE, f"{order.key} {what} {authority_id}"))


def _authority(found: values.Authority) -> ArrayAuthority:
    return ArrayAuthority(found.name.partition("/")[2], found.certificate_der, CaState(found.state.value))
