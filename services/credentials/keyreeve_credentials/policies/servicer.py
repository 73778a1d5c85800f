"""AccessPolicyService: access rules, and messages to values and back."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from google.protobuf.timestamp_pb2 import Timestamp

from keyreeve.credentials.v1 import access_policy_service_pb2 as pb
from keyreeve.identity import OPERATOR_ROLES, Role
from keyreeve_chassis.database.ports import Store
from keyreeve_chassis.guard.access import AccessRule, AccessRules, Freshness
from keyreeve_chassis.guard.call import Call, caller_of, chosen, id_of, invalid, number_of, timestamp
from keyreeve_chassis.guard.paging import Pages
from keyreeve_chassis.idempotency.mutation import Mutations
from keyreeve_credentials.policies.ports import PastRead, PastReads
from keyreeve_credentials.policies.rules import Membership, Policy, Rule
from keyreeve_credentials.policies.service import Policies

_SERVICE = "/keyreeve.credentials.v1.AccessPolicyService/"
_MOST_SAMPLE = 1_000
_MOST_SHOWN = 100

ACCESS: AccessRules = {
    _SERVICE + "ListPolicies": AccessRule(OPERATOR_ROLES, freshness=Freshness.TOLERANT),
    _SERVICE + "ApplyPolicy": AccessRule(
        frozenset({Role.ADMIN}), forwarded=True, records=("policy.name", "policy.version")
    ),
    _SERVICE + "SimulatePolicy": AccessRule(
        OPERATOR_ROLES, freshness=Freshness.TOLERANT, records=("policy.name", "sample_size")
    ),
}
_MEMBERSHIPS: Final = {
    pb.MEMBERSHIP_UNSPECIFIED: Membership.ANY,
    pb.MEMBERSHIP_MEMBER_OF_ARRAY: Membership.MEMBER_OF_ARRAY,
    pb.MEMBERSHIP_PRIMARY_OF_ARRAY: Membership.PRIMARY_OF_ARRAY,
}


@dataclass(frozen=True)
class PolicyServicer:
    """Serves AccessPolicyService."""

    policies: Policies
    reads: PastReads
    store: Store[Any]
    mutations: Mutations[Any]
    pages: Pages

    async def ListPolicies(self, request: pb.ListPoliciesRequest, call: Call) -> pb.ListPoliciesResponse:
        page = self.pages.open(call, request)
        present = await self.store.read(self.policies.present)
        rows = [one for one in sorted(present, key=lambda policy: policy.name) if one.name > page.after]
        return pb.ListPoliciesResponse(
            policies=[_message(policy) for policy in rows[: page.size]],
            next_page_token=page.next_token(rows[page.size - 1].name if len(rows) > page.size else None),
        )

    async def ApplyPolicy(self, request: pb.ApplyPolicyRequest, call: Call) -> pb.Policy:
        wanted, by = _policy(request.policy), str(caller_of(call))
        return await self.mutations(
            call,
            request,
            lambda tx: _message(self.policies.apply(tx, wanted, by)),
            lambda policy: [("version", str(policy.version))],
        )

    async def SimulatePolicy(self, request: pb.SimulatePolicyRequest, call: Call) -> pb.SimulatePolicyResponse:
        if not 0 <= request.sample_size <= _MOST_SAMPLE:
            raise invalid("sample_size", f"at most {_MOST_SAMPLE}; 100 unless given")
        wanted = _policy(request.policy)
        found = await self.policies.simulate(self.store, self.reads, wanted, request.sample_size or 100)
        return pb.SimulatePolicyResponse(
            examined=found.examined,
            newly_denied=sum(1 for read in found.changed if read.allowed),
            newly_allowed=sum(1 for read in found.changed if not read.allowed),
            reads=[_simulated(read) for read in found.changed[:_MOST_SHOWN]],
        )


def _policy(message: pb.Policy) -> Policy:
    return Policy(
        id_of(message.name, "policies", "policy.name"), message.version, tuple(_rule(rule) for rule in message.rules)
    )


def _rule(message: pb.PolicyRule) -> Rule:
    return Rule(
        callers=tuple(message.callers),
        purposes=tuple(message.purposes),
        membership=chosen(_MEMBERSHIPS, message.membership, "policy.rules.membership"),
        arrays=tuple(message.arrays),
        owners=tuple(message.owners),
        resources=tuple(message.resources),
    )


def _message(policy: Policy) -> pb.Policy:
    return pb.Policy(
        name=f"policies/{policy.name}",
        version=policy.version,
        rules=[
            pb.PolicyRule(
                callers=rule.callers,
                membership=number_of(_MEMBERSHIPS, rule.membership),
                arrays=rule.arrays,
                owners=rule.owners,
                resources=rule.resources,
                purposes=rule.purposes,
            )
            for rule in policy.rules
        ],
        create_time=timestamp(policy.created_at) if policy.version else None,
        creator=policy.creator,
    )


def _simulated(read: PastRead) -> pb.SimulatedRead:
    moment = Timestamp()
    moment.FromDatetime(datetime.fromtimestamp(read.read_at / 1000, UTC))
    return pb.SimulatedRead(
        caller=read.caller,
        array=f"arrays/{read.access.array_id}",
        owner=read.access.owner or "",
        resource=read.access.resource or "",
        purpose=read.access.purpose,
        read_time=moment,
        allowed=not read.allowed,
    )
