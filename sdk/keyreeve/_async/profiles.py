"""Profiles: the rules of issuance."""

from collections.abc import AsyncGenerator

from keyreeve import wire
from keyreeve._async.calls import Caller
from keyreeve.ca.v1 import profile_service_pb2 as pb
from keyreeve.request_ids import new_request_id
from keyreeve.values import Profile, SimulationReport

_SERVICE = "/keyreeve.ca.v1.ProfileService"


class ProfileClient:
    """The profiles and their immutable versions; reached as `Client.profiles`.

    Profiles may be named in full (`profiles/server`) or by their last part (`server`). `request_id` makes a mutation
    idempotent: one is made for each call unless given, and kept over its retries. Every method raises `keyreeve.errors`
    and takes a `timeout` in seconds over all its attempts.
    """

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def create(
        self, profile_id: str, document: str, *, request_id: str | None = None, timeout: float | None = None
    ) -> Profile:
        """Create a profile from a document in YAML or JSON (docs/profiles.md)."""
        request = pb.CreateProfileRequest(
            profile_id=profile_id,
            profile=pb.Profile(document=document),
            request_id=request_id or new_request_id(),
        )
        return wire.from_profile(await self._caller.unary(f"{_SERVICE}/CreateProfile", request, pb.Profile, timeout))

    async def get(self, name: str, version: int | None = None, *, timeout: float | None = None) -> Profile:
        """Return the current version of a profile, or the given one."""
        request = pb.GetProfileRequest(name=wire.resource_name("profiles", name), version=version or 0)
        return wire.from_profile(await self._caller.unary(f"{_SERVICE}/GetProfile", request, pb.Profile, timeout))

    async def list(self, *, page_size: int = 100, timeout: float | None = None) -> AsyncGenerator[Profile, None]:
        """Iterate over the current versions of all profiles by name.

        `timeout` is for each page.
        """
        request = pb.ListProfilesRequest(page_size=page_size)
        while True:
            method = f"{_SERVICE}/ListProfiles"
            page = await self._caller.unary(method, request, pb.ListProfilesResponse, timeout)
            for message in page.profiles:
                yield wire.from_profile(message)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def update(
        self,
        name: str,
        document: str,
        *,
        version: int | None = None,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> Profile:
        """Create a new version, under which all later certificates are issued.

        `version` is the one that the change is based on: if there is a newer one, the call raises
        `keyreeve.errors.ProfileVersionStale`. An unchanged document creates no version.
        """
        request = pb.UpdateProfileRequest(
            profile=pb.Profile(name=wire.resource_name("profiles", name), document=document, version=version or 0),
            request_id=request_id or new_request_id(),
        )
        return wire.from_profile(await self._caller.unary(f"{_SERVICE}/UpdateProfile", request, pb.Profile, timeout))

    async def simulate(
        self, name: str, document: str, *, sample_size: int = 100, timeout: float | None = None
    ) -> SimulationReport:
        """Replay the last issuances of a profile under `document`.

        Nothing is issued or stored.
        """
        request = pb.SimulateProfileRequest(
            name=wire.resource_name("profiles", name), document=document, sample_size=sample_size
        )
        method = f"{_SERVICE}/SimulateProfile"
        return wire.from_report(await self._caller.unary(method, request, pb.SimulateProfileResponse, timeout))
