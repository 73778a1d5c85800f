"""`authorities.ports.ArrayAuthorities` over the SDK: the CA service keeps the CAs of arrays."""

import uuid
from dataclasses import dataclass

from keyreeve import aio, values
from keyreeve.errors import AuthorityExists
from keyreeve_membership.authorities.ports import ArrayAuthority, CaState, KeyType, Order, PeerCertificate

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
                request_id=_request_id(order, "create", authority_id),
            )
        except AuthorityExists:
            return await self.get(authority_id)
        return _authority(made)

    async def get(self, authority_id: str) -> ArrayAuthority:
        """Return the authority."""
        return _authority(await self.client.authorities.get(authority_id))

    async def activate(self, order: Order, authority_id: str) -> ArrayAuthority:
        """Let it issue."""
        found = await self.get(authority_id)
        if found.state is CaState.ACTIVE:
            return found
        request_id = _request_id(order, "activate", authority_id)
        return _authority(await self.client.authorities.activate(authority_id, request_id=request_id))

    async def issue_peer(self, authority_id: str, member: str, csr: bytes, request_id: str) -> PeerCertificate:
        """Issue a peer certificate; the CA holds the request to the name of the server."""
        signed = await self.client.certificates.sign(
            "array-peer", csr, names=[values.Name.dns(member)], authority=authority_id, request_id=request_id
        )
        return PeerCertificate(
            signed.name.partition("/")[2],
            signed.certificate_der,
            signed.authority.partition("/")[2],
            int(signed.not_after.timestamp()),
            int(signed.renew_at.timestamp()),
        )


def _request_id(order: Order, what: str, authority_id: str) -> str:
    return str(uuid.uuid5(_NAMESPACE, f"{order.key} {what} {authority_id}"))


def _authority(found: values.Authority) -> ArrayAuthority:
    return ArrayAuthority(found.name.partition("/")[2], found.certificate_der, CaState(found.state.value))
