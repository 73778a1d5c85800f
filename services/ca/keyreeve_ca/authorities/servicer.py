"""AuthorityService: access rules, and messages to values and back."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from keyreeve import errors
from keyreeve.ca.v1 import authority_service_pb2 as pb
from keyreeve.ca.v1 import crl_reason_pb2
from keyreeve.identity import ALL_ROLES, SELF_ROLES, Role
from keyreeve.values import AuthorityKind, Hierarchy
from keyreeve_ca.arrays.orders import is_array
from keyreeve_ca.authorities.service import Authorities, NewAuthority
from keyreeve_ca.issuance.snapshot import IssuanceSnapshot, bundle_digest
from keyreeve_ca.messages import AUTHORITY_KEY_TYPES, HIERARCHIES, KINDS, authority_message, order_of
from keyreeve_ca.store.ports import Authority, Store, Transaction
from keyreeve_chassis.guard.access import AccessRule, AccessRules, Freshness
from keyreeve_chassis.guard.call import Call, caller_of, chosen, duration_of, id_of, invalid
from keyreeve_chassis.guard.paging import Pages
from keyreeve_chassis.idempotency.mutation import Mutations

_SERVICE = "/keyreeve.ca.v1.AuthorityService/"
_READ = AccessRule(SELF_ROLES, freshness=Freshness.TOLERANT)
_CHANGE = AccessRule(frozenset({Role.ADMIN, Role.MEMBERSHIP}), forwarded=True)
_ORDERED = AccessRule(frozenset({Role.MEMBERSHIP}), forwarded=True)

ACCESS: AccessRules = {
    _SERVICE + "CreateAuthority": AccessRule(
        _CHANGE.roles, forwarded=True, records=("authority_id", "authority.hierarchy", "authority.owner")
    ),
    _SERVICE + "GetAuthority": _READ,
    _SERVICE + "ListAuthorities": _READ,
    _SERVICE + "IntroduceAuthority": _ORDERED,
    _SERVICE + "ActivateAuthority": _CHANGE,
    _SERVICE + "RetireAuthority": _CHANGE,
    _SERVICE + "RevokeAuthority": AccessRule(_CHANGE.roles, forwarded=True, records=("name", "reason")),
    _SERVICE + "DestroyAuthority": _ORDERED,
    _SERVICE + "ExportAuthority": _READ,
    _SERVICE + "GetBundle": AccessRule(ALL_ROLES, freshness=Freshness.EXEMPT),
    _SERVICE + "WatchBundle": AccessRule(ALL_ROLES, long_stream=True, freshness=Freshness.EXEMPT),
}

_REVOCATION_REASONS = {
    crl_reason_pb2.CRL_REASON_CA_COMPROMISE: "ca_compromise",
    crl_reason_pb2.CRL_REASON_SUPERSEDED: "superseded",
    crl_reason_pb2.CRL_REASON_CESSATION_OF_OPERATION: "cessation_of_operation",
}
_LINES = {"control": Hierarchy.CONTROL, "estate": Hierarchy.ESTATE}


@dataclass(frozen=True)
class AuthorityServicer:
    """Serves AuthorityService."""

    authorities: Authorities
    store: Store
    mutations: Mutations[Transaction]
    snapshot: Callable[[], IssuanceSnapshot]
    snapshot_changed: Callable[[int], Awaitable[None]]
    """Resolves once the snapshot's version is above the given one."""
    trust_root: Callable[[], bytes]
    pages: Pages

    async def CreateAuthority(self, request: pb.CreateAuthorityRequest, call: Call) -> pb.Authority:
        wanted = request.authority
        hierarchy = chosen(HIERARCHIES, wanted.hierarchy, "authority.hierarchy")
        kind = chosen(KINDS, wanted.kind, "authority.kind")
        if (kind is AuthorityKind.INTERMEDIATE) != bool(wanted.issuer):
            raise invalid("authority.issuer", "required for an intermediate, and for no other")
        if caller_of(call).role is Role.MEMBERSHIP and hierarchy is not Hierarchy.STANDALONE:
            raise _owned_only()
        if caller_of(call).role is not Role.MEMBERSHIP and is_array(wanted.owner):
            raise _membership_only()
        new = NewAuthority(
            authority_id=request.authority_id,
            hierarchy=hierarchy,
            owner=wanted.owner,
            issuer_id=id_of(wanted.issuer, "authorities", "authority.issuer") if wanted.issuer else None,
            common_name=wanted.common_name,
            key_type=chosen(AUTHORITY_KEY_TYPES, wanted.key_type, "authority.key_type"),
            lifetime=duration_of(wanted.lifetime, "authority.lifetime") if wanted.HasField("lifetime") else None,
            permitted_dns=tuple(wanted.permitted_dns_suffixes),
            unconstrained=request.unconstrained,
            order=order_of(request),
        )
        return await self.mutations.prepared(
            call,
            request,
            lambda commit: self.authorities.create(new, lambda act: commit(lambda tx: authority_message(act(tx)))),
        )

    async def GetAuthority(self, request: pb.GetAuthorityRequest, call: Call) -> pb.Authority:
        authority_id = id_of(request.name, "authorities")
        return authority_message(await self.store.read(lambda tx: tx.authority(authority_id)))

    async def ListAuthorities(self, request: pb.ListAuthoritiesRequest, call: Call) -> pb.ListAuthoritiesResponse:
        page = self.pages.open(call, request)
        rows = await self.store.read(lambda tx: tx.authorities(after=page.after, limit=page.size + 1))
        return pb.ListAuthoritiesResponse(
            authorities=[authority_message(a) for a in rows[: page.size]],
            next_page_token=page.next_token(rows[page.size - 1].authority_id if len(rows) > page.size else None),
        )

    async def IntroduceAuthority(self, request: pb.IntroduceAuthorityRequest, call: Call) -> pb.Authority:
        authority_id, order = await self._for_change(request.name, call), order_of(request)
        return await self.mutations.prepared(
            call,
            request,
            lambda commit: self.authorities.introduce(
                authority_id, order, lambda act: commit(lambda tx: authority_message(act(tx)))
            ),
        )

    async def ActivateAuthority(self, request: pb.ActivateAuthorityRequest, call: Call) -> pb.Authority:
        authority_id, order = await self._for_change(request.name, call), order_of(request)
        return await self.mutations.prepared(
            call,
            request,
            lambda commit: self.authorities.activate(
                authority_id, order, lambda act: commit(lambda tx: authority_message(act(tx)))
            ),
        )

    async def RetireAuthority(self, request: pb.RetireAuthorityRequest, call: Call) -> pb.Authority:
        authority_id, order = await self._for_change(request.name, call), order_of(request)
        return await self.mutations(
            call, request, lambda tx: authority_message(self.authorities.retire(tx, authority_id, order))
        )

    async def RevokeAuthority(self, request: pb.RevokeAuthorityRequest, call: Call) -> pb.Authority:
        reason = chosen(_REVOCATION_REASONS, request.reason, "reason")
        by_admin, order = caller_of(call).role is Role.ADMIN, order_of(request)
        authority_id = await self._for_change(request.name, call, revokes=True)
        if by_admin and order is not None:
            raise invalid("order", "it is for the membership service")
        return await self.mutations(
            call,
            request,
            lambda tx: authority_message(self.authorities.revoke(tx, authority_id, reason, order, by_admin=by_admin)),
        )

    async def DestroyAuthority(self, request: pb.DestroyAuthorityRequest, call: Call) -> pb.Authority:
        authority_id, order = await self._for_change(request.name, call), order_of(request)

        def destroy(tx: Transaction) -> pb.Authority:
            accepted = request.accept_unexpired
            return authority_message(self.authorities.destroy(tx, authority_id, order, accept_unexpired=accepted))

        return await self.mutations(call, request, destroy)

    async def ExportAuthority(self, request: pb.ExportAuthorityRequest, call: Call) -> pb.ExportAuthorityResponse:
        authority_id = id_of(request.name, "authorities")
        chain = await self.store.read(lambda tx: _chain(tx, authority_id))
        return pb.ExportAuthorityResponse(chain_der=[a.certificate_der for a in chain])

    async def GetBundle(self, request: pb.GetBundleRequest, call: Call) -> pb.Bundle:
        return self._bundle(_line(request.name))

    async def WatchBundle(self, request: pb.WatchBundleRequest, call: Call) -> AsyncIterator[pb.Bundle]:
        line = _line(request.name)
        sent = b""
        while True:
            version = self.snapshot().config_version
            bundle = self._bundle(line)
            if bundle.digest != sent:
                sent = bundle.digest
                yield bundle
            await self.snapshot_changed(version)

    async def _for_change(self, name: str, call: Call, *, revokes: bool = False) -> str:
        """The authority that is to change; the membership service changes only what has an owner.

        What an array owns is changed by that service alone, except that others revoke it.
        """
        authority_id = id_of(name, "authorities")
        owner = (await self.store.read(lambda tx: tx.authority(authority_id))).owner
        if caller_of(call).role is Role.MEMBERSHIP:
            if not owner:
                raise _owned_only()
        elif is_array(owner) and not revokes:
            raise _membership_only()
        return authority_id

    def _bundle(self, line: str) -> pb.Bundle:
        snapshot = self.snapshot()
        roots = snapshot.roots(_LINES[line])
        return pb.Bundle(
            name=f"bundles/{line}",
            trust_domain=snapshot.trust_domain,
            roots_der=[a.certificate_der for a in roots],
            digest=bundle_digest(roots),
            trust_root=self.trust_root(),
        )


def _line(name: str) -> str:
    line = id_of(name, "bundles")
    if line not in _LINES:
        raise errors.BundleNotFound(f"there is no bundle {name!r}", metadata={"bundle": name})
    return line


def _chain(tx: Transaction, authority_id: str) -> list[Authority]:
    chain = [tx.authority(authority_id)]
    while chain[-1].issuer_id != chain[-1].authority_id:
        chain.append(tx.authority(chain[-1].issuer_id))
    return chain


def _membership_only() -> errors.KeyreeveError:
    return errors.AccessDenied(
        "only the membership service changes the authorities of arrays", metadata={"allowed": Role.MEMBERSHIP.value}
    )


def _owned_only() -> errors.KeyreeveError:
    return errors.AccessDenied(
        "the membership service may change only authorities that have an owner", metadata={"allowed": Role.ADMIN.value}
    )
