"""ProfileService: access rules, and messages to values and back."""

from collections.abc import Callable
from dataclasses import dataclass

from keyreeve.ca.v1 import profile_service_pb2 as pb
from keyreeve.identity import OPERATOR_ROLES, SELF_ROLES, Role
from keyreeve_ca.issuance.snapshot import IssuanceSnapshot
from keyreeve_ca.messages import profile_message
from keyreeve_ca.profiles.profile import ProfileVersion
from keyreeve_ca.profiles.service import Profiles, Simulation
from keyreeve_ca.store.ports import Store, Transaction
from keyreeve_chassis.guard.access import AccessRule, AccessRules, Freshness
from keyreeve_chassis.guard.call import Call, caller_of, id_of, invalid
from keyreeve_chassis.guard.paging import Pages
from keyreeve_chassis.idempotency.mutation import Mutations

_SERVICE = "/keyreeve.ca.v1.ProfileService/"

ACCESS: AccessRules = {
    _SERVICE + "CreateProfile": AccessRule(frozenset({Role.ADMIN}), forwarded=True, records=("profile_id",)),
    _SERVICE + "GetProfile": AccessRule(SELF_ROLES, freshness=Freshness.TOLERANT),
    _SERVICE + "ListProfiles": AccessRule(SELF_ROLES, freshness=Freshness.TOLERANT),
    _SERVICE + "UpdateProfile": AccessRule(
        frozenset({Role.ADMIN}), forwarded=True, records=("profile.name", "profile.version")
    ),
    _SERVICE + "SimulateProfile": AccessRule(OPERATOR_ROLES, freshness=Freshness.TOLERANT),
}


@dataclass(frozen=True)
class ProfileServicer:
    """Serves ProfileService."""

    profiles: Profiles
    store: Store
    mutations: Mutations[Transaction]
    snapshot: Callable[[], IssuanceSnapshot]
    pages: Pages

    async def CreateProfile(self, request: pb.CreateProfileRequest, call: Call) -> pb.Profile:
        document, creator = request.profile.document, str(caller_of(call))
        return await self.mutations.prepared(
            call,
            request,
            lambda commit: self.profiles.create(
                request.profile_id, document, creator, lambda act: commit(lambda tx: self._message(tx, act(tx)))
            ),
        )

    async def GetProfile(self, request: pb.GetProfileRequest, call: Call) -> pb.Profile:
        name = id_of(request.name, "profiles")
        if request.version < 0:
            raise invalid("version", "versions count from 1")
        return await self.store.read(lambda tx: self._message(tx, tx.profile(name, request.version or None)))

    async def ListProfiles(self, request: pb.ListProfilesRequest, call: Call) -> pb.ListProfilesResponse:
        page = self.pages.open(call, request)

        def work(tx: Transaction) -> pb.ListProfilesResponse:
            rows = tx.profiles(after=page.after, limit=page.size + 1)
            return pb.ListProfilesResponse(
                profiles=[self._message(tx, version) for version in rows[: page.size]],
                next_page_token=page.next_token(rows[page.size - 1].name if len(rows) > page.size else None),
            )

        return await self.store.read(work)

    async def UpdateProfile(self, request: pb.UpdateProfileRequest, call: Call) -> pb.Profile:
        wanted = request.profile
        name, creator = id_of(wanted.name, "profiles", "profile.name"), str(caller_of(call))
        return await self.mutations.prepared(
            call,
            request,
            lambda commit: self.profiles.update(
                name,
                wanted.version,
                wanted.document,
                creator,
                lambda act: commit(lambda tx: self._message(tx, act(tx))),
            ),
        )

    async def SimulateProfile(self, request: pb.SimulateProfileRequest, call: Call) -> pb.SimulateProfileResponse:
        if not 0 <= request.sample_size <= 1000:
            raise invalid("sample_size", "at most 1,000; 100 unless given")
        name = id_of(request.name, "profiles")
        simulation = await self.profiles.simulate(name, request.document, request.sample_size or 100, self.snapshot())
        return _simulated(simulation)

    def _message(self, tx: Transaction, version: ProfileVersion) -> pb.Profile:
        return profile_message(version, tx.profile_facts, self.profiles.built_in)


def _simulated(simulation: Simulation) -> pb.SimulateProfileResponse:
    return pb.SimulateProfileResponse(
        examined=simulation.examined,
        same=simulation.same,
        different=simulation.different,
        refused=simulation.refused,
        issuances=[
            pb.SimulatedIssuance(
                certificate=f"certificates/{d.serial.hex()}",
                outcome=pb.SIMULATED_OUTCOME_REFUSED if d.reason else pb.SIMULATED_OUTCOME_DIFFERENT,
                reason=d.reason,
                message=d.message,
            )
            for d in simulation.differences
        ],
    )
