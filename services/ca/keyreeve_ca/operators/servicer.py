"""OperatorService: access rules, and messages to values and back."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from keyreeve.ca.v1 import operator_service_pb2 as pb
from keyreeve.enrollment_token import EnrollmentToken
from keyreeve.identity import INNER_SERVICE_ROLES, OPERATOR_ROLES, Role
from keyreeve_ca.enrollment.tokens import EnrollmentTokens
from keyreeve_ca.operators.dual_control import actor_of
from keyreeve_ca.operators.ports import APPROVAL_SECONDS, Operator, RegisteredKey
from keyreeve_ca.operators.ssh_keys import SshKey, SshKeys
from keyreeve_ca.requests.key_rules import KnownKeys
from keyreeve_ca.requests.openssh_keys import MOST_KEYS, OperatorKey, read_operator_key
from keyreeve_ca.store.ports import Store, Transaction
from keyreeve_chassis.guard.access import AccessRule, AccessRules, Freshness
from keyreeve_chassis.guard.call import Call, caller_of, chosen, id_of, invalid, timestamp
from keyreeve_chassis.guard.paging import Pages
from keyreeve_chassis.idempotency.mutation import Mutations

_SERVICE = "/keyreeve.ca.v1.OperatorService/"
_ADMINS = frozenset({Role.ADMIN})
_READ = AccessRule(OPERATOR_ROLES | INNER_SERVICE_ROLES, freshness=Freshness.TOLERANT)

ACCESS: AccessRules = {
    _SERVICE + "InviteOperator": AccessRule(_ADMINS, forwarded=True, records=("operator_id", "role")),
    _SERVICE + "ApproveOperatorChange": AccessRule(_ADMINS, forwarded=True, records=("operator_id", "role")),
    _SERVICE + "GetOperator": _READ,
    _SERVICE + "ListOperators": _READ,
    # Keys are recorded as fingerprints of what was accepted: a request may contain a private key by mistake.
    _SERVICE + "UpdateOperator": AccessRule(_ADMINS, forwarded=True, records=("name", "role", "update_mask.paths")),
    _SERVICE + "RegisterSshKey": AccessRule(_ADMINS, forwarded=True, records=("operator", "certificate_authority")),
    _SERVICE + "ListSshKeys": AccessRule(OPERATOR_ROLES, freshness=Freshness.TOLERANT, records=("operator",)),
    _SERVICE + "RemoveSshKey": AccessRule(OPERATOR_ROLES, forwarded=True, records=("operator", "fingerprint")),
    _SERVICE + "RemoveOperator": AccessRule(_ADMINS, forwarded=True),
}
_ROLES = {
    pb.OPERATOR_ROLE_ADMIN: Role.ADMIN,
    pb.OPERATOR_ROLE_OPERATOR: Role.OPERATOR,
    pb.OPERATOR_ROLE_AUDITOR: Role.AUDITOR,
}
_NUMBERS = {role: number for number, role in _ROLES.items()}

Change = Callable[[Transaction], tuple[Operator, bool]]
"""Changes a record; returns it, and whether the operator needs a token for it."""
WithToken = TypeVar("WithToken", pb.InviteOperatorResponse, pb.UpdateOperatorResponse)


@dataclass(frozen=True)
class OperatorServicer:
    """Serves OperatorService."""

    tokens: EnrollmentTokens
    ssh_keys: SshKeys
    store: Store
    mutations: Mutations[Transaction]
    pages: Pages
    known_keys: Callable[[], KnownKeys]

    async def InviteOperator(self, request: pb.InviteOperatorRequest, call: Call) -> pb.InviteOperatorResponse:
        role, by = chosen(_ROLES, request.role, "role"), str(caller_of(call))
        return await self._with_token(
            request,
            call,
            lambda tx: (self.tokens.operators.invite(tx, request.operator_id, role, by), True),
            pb.InviteOperatorResponse,
        )

    async def ApproveOperatorChange(self, request: pb.ApproveOperatorChangeRequest, call: Call) -> pb.OperatorApproval:
        removal = request.role == pb.OPERATOR_ROLE_UNSPECIFIED
        role = None if removal else chosen(_ROLES, request.role, "role")
        control, by, name = self.tokens.operators.dual_control, str(caller_of(call)), request.operator_id

        def approve(tx: Transaction) -> pb.OperatorApproval:
            made = control.approve(tx, actor_of(tx, by), name, role)
            return pb.OperatorApproval(
                operator_id=name,
                role=request.role,
                approver=made.approved_by,
                expire_time=timestamp(made.approved_at + APPROVAL_SECONDS),
            )

        return await self.mutations(call, request, approve)

    async def GetOperator(self, request: pb.GetOperatorRequest, call: Call) -> pb.Operator:
        name = id_of(request.name, "operators")
        return self._message(await self.store.read(lambda tx: self.tokens.operators.get(tx, name)))

    async def ListOperators(self, request: pb.ListOperatorsRequest, call: Call) -> pb.ListOperatorsResponse:
        page = self.pages.open(call, request)
        rows = await self.store.read(lambda tx: tx.operators.active(after=page.after, limit=page.size + 1))
        return pb.ListOperatorsResponse(
            operators=[self._message(row) for row in rows[: page.size]],
            next_page_token=page.next_token(rows[page.size - 1].name if len(rows) > page.size else None),
        )

    async def UpdateOperator(self, request: pb.UpdateOperatorRequest, call: Call) -> pb.UpdateOperatorResponse:
        operators, by = self.tokens.operators, str(caller_of(call))
        name, mask = id_of(request.name, "operators"), _mask(request)
        keys = self._keys(request) if "keys" in mask else ()
        if "role" not in mask:
            return await self.mutations(
                call,
                request,
                lambda tx: pb.UpdateOperatorResponse(operator=self._message(operators.change_keys(tx, name, keys, by))),
                _fingerprints,
            )
        role = chosen(_ROLES, request.role, "role")

        def change(tx: Transaction) -> tuple[Operator, bool]:
            if "keys" in mask:
                operators.change_keys(tx, name, keys, by)
            before = operators.get(tx, name).role
            # A token without a change would be an invitation that nobody has approved.
            return operators.change_role(tx, name, role, by), role is not before

        return await self._with_token(request, call, change, pb.UpdateOperatorResponse)

    async def RemoveOperator(self, request: pb.RemoveOperatorRequest, call: Call) -> pb.Operator:
        name, by = id_of(request.name, "operators"), str(caller_of(call))
        return await self.mutations(call, request, lambda tx: self._message(self.tokens.operators.remove(tx, name, by)))

    async def RegisterSshKey(self, request: pb.RegisterSshKeyRequest, call: Call) -> pb.SshKey:
        name, by = id_of(request.operator, "operators", "operator"), caller_of(call)
        key, authority = (
            read_operator_key(request.public_key, self.known_keys(), "public_key"),
            request.certificate_authority,
        )
        return await self.mutations(
            call,
            request,
            lambda tx: _ssh_key(self.ssh_keys.register(tx, name, key, by, authority=authority)),
            _fingerprint,
        )

    async def ListSshKeys(self, request: pb.ListSshKeysRequest, call: Call) -> pb.ListSshKeysResponse:
        name, by = id_of(request.operator, "operators", "operator"), caller_of(call)
        found = await self.store.read(lambda tx: self.ssh_keys.all(tx, name, by))
        return pb.ListSshKeysResponse(keys=[_ssh_key(one) for one in found])

    async def RemoveSshKey(self, request: pb.RemoveSshKeyRequest, call: Call) -> pb.SshKey:
        name, by = id_of(request.operator, "operators", "operator"), caller_of(call)
        return await self.mutations(
            call, request, lambda tx: _ssh_key(self.ssh_keys.remove(tx, name, request.fingerprint, by)), _fingerprint
        )

    async def _with_token(
        self,
        request: pb.InviteOperatorRequest | pb.UpdateOperatorRequest,
        call: Call,
        change: Change,
        response_type: type[WithToken],
    ) -> WithToken:
        """Change an operator's record and make the token that it needs, in one transaction; the secret is never on disk.

        The stored response has the token's id in the place of its text.
        """

        def act(tx: Transaction) -> tuple[WithToken, EnrollmentToken | None]:
            operator, invited = change(tx)
            response = response_type(operator=self._message(operator))
            if not invited:
                return response, None
            stored, token = self.tokens.for_person(tx, operator, str(caller_of(call)), request.address)
            expires = timestamp(stored.expires_at)
            response.MergeFrom(response_type(token=stored.token_id.hex(), token_expire_time=expires))
            return response, token

        def renew_secret(tx: Transaction, stored: WithToken) -> EnrollmentToken | None:
            if not stored.token:
                return None
            return self.tokens.renew_secret(tx, bytes.fromhex(stored.token), request.address)

        response, token = await self.mutations.with_secret(call, request, act, renew_secret, _fingerprints)
        response.token = "" if token is None else token.text()
        return response

    def _keys(self, request: pb.UpdateOperatorRequest) -> list[OperatorKey]:
        if len(request.keys) > MOST_KEYS:
            raise invalid("keys", f"at most {MOST_KEYS} keys")
        known = self.known_keys()
        return [read_operator_key(line, known, f"keys[{i}]") for i, line in enumerate(request.keys)]

    def _message(self, person: Operator) -> pb.Operator:
        return pb.Operator(
            name=f"operators/{person.name}",
            person_uid=person.person_uid,
            role=_NUMBERS[person.role],
            identity=str(person.identity(self.tokens.trust_domain)),
            create_time=timestamp(person.created_at),
            invite_time=timestamp(person.invited_at),
            inviter=person.invited_by,
            renew_until_time=timestamp(person.renews_until),
            remove_time=timestamp(person.removed_at),
            keys=[_key(each) for each in person.keys],
        )


def _key(registered: RegisteredKey) -> pb.OperatorKey:
    return pb.OperatorKey(
        public_key=registered.key.line,
        fingerprint=registered.key.fingerprint,
        hardware=registered.key.hardware,
        create_time=timestamp(registered.added_at),
        creator=registered.added_by,
    )


def _ssh_key(key: SshKey) -> pb.SshKey:
    return pb.SshKey(
        operator=f"operators/{key.operator}",
        key=_key(key.registered),
        certificate_authority=key.certificate_authority,
    )


def _fingerprint(key: pb.SshKey) -> list[tuple[str, str]]:
    return [("key", key.key.fingerprint)]


def _mask(request: pb.UpdateOperatorRequest) -> frozenset[str]:
    """Read the field mask."""
    paths = frozenset(request.update_mask.paths) if request.HasField("update_mask") else frozenset({"role"})
    if not paths or not paths <= {"role", "keys"}:
        raise invalid("update_mask", "role, keys, or both")
    if "keys" not in paths and request.keys:
        raise invalid("update_mask", "keys are given that the mask does not name")
    return paths


def _fingerprints(response: pb.InviteOperatorResponse | pb.UpdateOperatorResponse) -> list[tuple[str, str]]:
    operator = response.operator
    keys = [("key", key.fingerprint) for key in operator.keys]
    return [("invited", operator.identity), ("inviter", operator.inviter), *keys]
