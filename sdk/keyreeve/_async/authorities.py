"""Certificate authorities and trust bundles."""

from collections.abc import AsyncGenerator, Sequence
from datetime import timedelta

from keyreeve import wire
from keyreeve._async.calls import Caller
from keyreeve.ca.v1 import authority_service_pb2 as pb
from keyreeve.request_ids import new_request_id
from keyreeve.values import Authority, AuthorityKind, Bundle, CrlReason, Hierarchy, KeyType, Line, Order

_SERVICE = "/keyreeve.ca.v1.AuthorityService"


class AuthorityClient:
    """The private certificate authorities; reached as `Client.authorities`.

    Authorities may be named in full (`authorities/estate-2`) or by their last part (`estate-2`). `request_id` makes a
    mutation idempotent: one is made for each call unless given, and kept over its retries. Every method raises
    `keyreeve.errors` and takes a `timeout` in seconds over all its attempts.
    """

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def create(
        self,
        authority_id: str,
        *,
        hierarchy: Hierarchy,
        kind: AuthorityKind,
        common_name: str,
        issuer: str | None = None,
        owner: str = "",
        key_type: KeyType = KeyType.P256,
        lifetime: timedelta | None = None,
        permitted_dns_suffixes: Sequence[str] = (),
        unconstrained: bool = False,
        order: Order | None = None,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> Authority:
        """Create a CA with a new key.

        It is pending, and signs no leaf before it is activated.

        `issuer` is the root that signs an intermediate. `owner` is the resource that a standalone CA belongs to. `lifetime`
        is 10 years for a root and 2 for others unless given, never longer than the issuer's. `permitted_dns_suffixes` are
        name constraints of the certificates below it (RFC 5280, 4.2.1.10); an `unconstrained` intermediate of the estate has
        none, for relying parties that cannot read critical ones (mbedTLS). `order` is the membership service's, for an
        array's authority, here and in the other methods.
        """
        authority = pb.Authority(
            hierarchy=wire.to_number(wire.HIERARCHIES, hierarchy, "hierarchy"),
            kind=wire.to_number(wire.KINDS, kind, "kind"),
            owner=owner,
            issuer="" if issuer is None else wire.resource_name("authorities", issuer),
            common_name=common_name,
            key_type=wire.to_number(wire.AUTHORITY_KEY_TYPES, key_type, "key_type"),
            lifetime=wire.to_duration(lifetime),
            permitted_dns_suffixes=permitted_dns_suffixes,
        )
        request = pb.CreateAuthorityRequest(
            authority_id=authority_id,
            authority=authority,
            request_id=request_id or new_request_id(),
            order=wire.to_order(order),
            unconstrained=unconstrained,
        )
        return wire.from_authority(
            await self._caller.unary(f"{_SERVICE}/CreateAuthority", request, pb.Authority, timeout)
        )

    async def get(self, name: str, *, timeout: float | None = None) -> Authority:
        """Look up an authority."""
        request = pb.GetAuthorityRequest(name=_full(name))
        return wire.from_authority(await self._caller.unary(f"{_SERVICE}/GetAuthority", request, pb.Authority, timeout))

    async def list(self, *, page_size: int = 100, timeout: float | None = None) -> AsyncGenerator[Authority, None]:
        """Iterate over all authorities by name.

        Pages are fetched as needed, and `timeout` is for each.
        """
        request = pb.ListAuthoritiesRequest(page_size=page_size)
        while True:
            method = f"{_SERVICE}/ListAuthorities"
            page = await self._caller.unary(method, request, pb.ListAuthoritiesResponse, timeout)
            for message in page.authorities:
                yield wire.from_authority(message)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def introduce(
        self, name: str, *, order: Order, request_id: str | None = None, timeout: float | None = None
    ) -> Authority:
        """Introduce a pending authority of an array: it signs certificates of the profile `peer-check` alone."""
        request = pb.IntroduceAuthorityRequest(
            name=_full(name), request_id=request_id or new_request_id(), order=wire.to_order(order)
        )
        return wire.from_authority(
            await self._caller.unary(f"{_SERVICE}/IntroduceAuthority", request, pb.Authority, timeout)
        )

    async def activate(
        self, name: str, *, order: Order | None = None, request_id: str | None = None, timeout: float | None = None
    ) -> Authority:
        """Activate a pending or introduced authority.

        It is refused when a certificate that the authority would issue has lint findings.
        """
        request = pb.ActivateAuthorityRequest(
            name=_full(name), request_id=request_id or new_request_id(), order=wire.to_order(order)
        )
        return wire.from_authority(
            await self._caller.unary(f"{_SERVICE}/ActivateAuthority", request, pb.Authority, timeout)
        )

    async def retire(
        self, name: str, *, order: Order | None = None, request_id: str | None = None, timeout: float | None = None
    ) -> Authority:
        """Move an active authority to retiring, or a retiring one to retired.

        A retiring authority does not issue; the key of a retired one is destroyed.
        """
        request = pb.RetireAuthorityRequest(
            name=_full(name), request_id=request_id or new_request_id(), order=wire.to_order(order)
        )
        return wire.from_authority(
            await self._caller.unary(f"{_SERVICE}/RetireAuthority", request, pb.Authority, timeout)
        )

    async def revoke(
        self,
        name: str,
        reason: CrlReason,
        *,
        order: Order | None = None,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> Authority:
        """Revoke an authority and, with it, every certificate that it has issued."""
        request = pb.RevokeAuthorityRequest(
            name=_full(name),
            reason=wire.to_number(wire.CRL_REASONS, reason, "reason"),
            request_id=request_id or new_request_id(),
            order=wire.to_order(order),
        )
        return wire.from_authority(
            await self._caller.unary(f"{_SERVICE}/RevokeAuthority", request, pb.Authority, timeout)
        )

    async def destroy(
        self,
        name: str,
        *,
        order: Order,
        accept_unexpired: bool = False,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> Authority:
        """Destroy the key of an array's authority that does not issue."""
        request = pb.DestroyAuthorityRequest(
            name=_full(name),
            accept_unexpired=accept_unexpired,
            request_id=request_id or new_request_id(),
            order=wire.to_order(order),
        )
        return wire.from_authority(
            await self._caller.unary(f"{_SERVICE}/DestroyAuthority", request, pb.Authority, timeout)
        )

    async def export(self, name: str, *, timeout: float | None = None) -> tuple[bytes, ...]:
        """Return the authority's DER certificate and those above it, the root last.

        `keyreeve.values.to_pem` encodes them as a file.
        """
        request = pb.ExportAuthorityRequest(name=_full(name))
        method = f"{_SERVICE}/ExportAuthority"
        response = await self._caller.unary(method, request, pb.ExportAuthorityResponse, timeout)
        return tuple(response.chain_der)

    async def bundle(self, line: Line | str, *, timeout: float | None = None) -> Bundle:
        """Return the roots that relying parties of a line trust."""
        request = pb.GetBundleRequest(name=wire.resource_name("bundles", line))
        return wire.from_bundle(await self._caller.unary(f"{_SERVICE}/GetBundle", request, pb.Bundle, timeout))

    async def watch_bundle(self, line: Line | str) -> AsyncGenerator[Bundle, None]:
        """Iterate over the bundle of a line: as it is now, and after each change.

        The stream is opened again whenever it ends, and outages are waited out; only a failure before the first bundle, or
        one that is not transient, is raised.
        """
        request = pb.WatchBundleRequest(name=wire.resource_name("bundles", line))
        last = b""
        async for message in self._caller.follow(f"{_SERVICE}/WatchBundle", request, pb.Bundle):
            if message.digest != last:  # a stream that is opened again begins with the present bundle
                last = message.digest
                yield wire.from_bundle(message)


def _full(name: str) -> str:
    return wire.resource_name("authorities", name)
