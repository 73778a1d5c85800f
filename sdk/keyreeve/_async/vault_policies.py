"""Policies of the vault."""

from collections.abc import AsyncGenerator, Sequence

from keyreeve import vault_wire
from keyreeve._async.calls import Caller
from keyreeve.credentials.v1 import access_policy_service_pb2 as pb
from keyreeve.request_ids import new_request_id
from keyreeve.vault_values import Policy, PolicyRule, PolicySimulation

_SERVICE = "/keyreeve.credentials.v1.AccessPolicyService"


class PolicyClient:
    """Who may read and manage the entries of the vault; reached as `Client.credentials.policies`.

    Policies may be named in full (`policies/support`) or by their last part. Every method raises `keyreeve.errors` and takes
    a `timeout` in seconds over all its attempts.
    """

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def list(self, *, page_size: int = 100, timeout: float | None = None) -> AsyncGenerator[Policy, None]:
        """Iterate over the policies in force, in order of their names; `timeout` is for each page."""
        request = pb.ListPoliciesRequest(page_size=page_size)
        while True:
            page = await self._caller.unary(f"{_SERVICE}/ListPolicies", request, pb.ListPoliciesResponse, timeout)
            for message in page.policies:
                yield vault_wire.from_policy(message)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def apply(
        self,
        name: str,
        rules: Sequence[PolicyRule],
        *,
        version: int = 0,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> Policy:
        """Store a new version of a policy; with a `version`, only if it is the present one. No rules allow nothing."""
        request = pb.ApplyPolicyRequest(
            policy=vault_wire.to_policy(name, rules, version), request_id=request_id or new_request_id()
        )
        return vault_wire.from_policy(await self._caller.unary(f"{_SERVICE}/ApplyPolicy", request, pb.Policy, timeout))

    async def simulate(
        self, name: str, rules: Sequence[PolicyRule], *, sample_size: int = 100, timeout: float | None = None
    ) -> PolicySimulation:
        """Evaluate the last reads of secrets under another policy. Changes nothing."""
        request = pb.SimulatePolicyRequest(policy=vault_wire.to_policy(name, rules, 0), sample_size=sample_size)
        method = f"{_SERVICE}/SimulatePolicy"
        return vault_wire.from_simulation(await self._caller.unary(method, request, pb.SimulatePolicyResponse, timeout))
