"""Clients of one service: those of every service, and of the CA, the vault, membership and the gateway."""

from functools import cached_property
from typing import TYPE_CHECKING

from keyreeve._async.calls import Caller
from keyreeve._async.rotating import RotatingChannel

if TYPE_CHECKING:
    from keyreeve._async.array_settings import SettingClient
    from keyreeve._async.arrays import ArrayClient
    from keyreeve._async.audit import AuditClient
    from keyreeve._async.authorities import AuthorityClient
    from keyreeve._async.bundles import BundleClient
    from keyreeve._async.certificates import CertificateClient
    from keyreeve._async.host_keys import HostKeyClient
    from keyreeve._async.issuance import IssuanceClient
    from keyreeve._async.key_files import KeyFileClient
    from keyreeve._async.launches import LaunchSettingClient, ObjectClient
    from keyreeve._async.legacy_commands import LegacyCommandClient
    from keyreeve._async.members import MemberClient
    from keyreeve._async.operations import OperationClient
    from keyreeve._async.operators import OperatorClient
    from keyreeve._async.profiles import ProfileClient
    from keyreeve._async.resolution import ResolutionClient
    from keyreeve._async.rotations import RotationClient
    from keyreeve._async.sessions import SessionClient
    from keyreeve._async.tokens import TokenClient
    from keyreeve._async.trust import TrustClient
    from keyreeve._async.vault import EntryClient
    from keyreeve._async.vault_keys import KeyClient
    from keyreeve._async.vault_policies import PolicyClient


class ServiceClient:
    """What every service offers; reached as `Client.service(name)`."""

    def __init__(self, channel: RotatingChannel, caller: Caller) -> None:
        self._channel = channel
        self._caller = caller

    @cached_property
    def operations(self) -> "OperationClient":
        """Work that continues after the call that started it."""
        from keyreeve._async.operations import OperationClient

        return OperationClient(self._caller)

    @cached_property
    def audit(self) -> "AuditClient":
        """The service's audit log."""
        from keyreeve._async.audit import AuditClient

        return AuditClient(self._caller)

    @property
    def is_connected(self) -> bool:
        """Whether a channel to the service is open.

        It is from the first call until the client is closed.
        """
        return self._channel.open_channels > 0

    async def rotate(self) -> bool:
        """Move to the present contents of the context's files (`Client.rotate`)."""
        return await self._channel.rotate()

    async def close(self) -> None:
        """Close the connections to this service; calls still in flight fail."""
        await self._channel.close()


class CaClient(ServiceClient):
    """The CA service; reached as `Client.ca`."""

    def __init__(self, channel: RotatingChannel, caller: Caller, trust_domain: str, *, coalesce: bool) -> None:
        super().__init__(channel, caller)
        self._trust_domain = trust_domain
        self._coalesce = coalesce

    @cached_property
    def certificates(self) -> "CertificateClient":
        """Sign, renew, look up."""
        from keyreeve._async.certificates import CertificateClient

        return CertificateClient(self._caller, self._trust_domain, coalesce=self._coalesce)

    @cached_property
    def authorities(self) -> "AuthorityClient":
        """The private CAs and the trust bundles."""
        from keyreeve._async.authorities import AuthorityClient

        return AuthorityClient(self._caller)

    @cached_property
    def profiles(self) -> "ProfileClient":
        """The rules of issuance."""
        from keyreeve._async.profiles import ProfileClient

        return ProfileClient(self._caller)

    @cached_property
    def tokens(self) -> "TokenClient":
        """Enrollment tokens."""
        from keyreeve._async.tokens import TokenClient

        return TokenClient(self._caller)

    @cached_property
    def operators(self) -> "OperatorClient":
        """The people who operate the control plane."""
        from keyreeve._async.operators import OperatorClient

        return OperatorClient(self._caller)

    @cached_property
    def sessions(self) -> "SessionClient":
        """Operators' sessions at gateways."""
        from keyreeve._async.sessions import SessionClient

        return SessionClient(self._caller)

    @cached_property
    def issuance(self) -> "IssuanceClient":
        """The switch that stops issuance everywhere."""
        from keyreeve._async.issuance import IssuanceClient

        return IssuanceClient(self._caller)

    @cached_property
    def trust(self) -> "TrustClient":
        """What decides about callers, for services."""
        from keyreeve._async.trust import TrustClient

        return TrustClient(self._caller)


class CredentialsClient(ServiceClient):
    """The credentials service; reached as `Client.credentials`."""

    @cached_property
    def entries(self) -> "EntryClient":
        """The entries of the vault."""
        from keyreeve._async.vault import EntryClient

        return EntryClient(self._caller)

    @cached_property
    def keys(self) -> "KeyClient":
        """The keys that they are encrypted under, and the seal."""
        from keyreeve._async.vault_keys import KeyClient

        return KeyClient(self._caller)

    @cached_property
    def policies(self) -> "PolicyClient":
        """Who may read and manage them."""
        from keyreeve._async.vault_policies import PolicyClient

        return PolicyClient(self._caller)

    @cached_property
    def objects(self) -> "ObjectClient":
        """Application servers, applications and user profiles."""
        from keyreeve._async.launches import ObjectClient

        return ObjectClient(self._caller)

    @cached_property
    def launch_settings(self) -> "LaunchSettingClient":
        """Launch settings of arrays and servers."""
        from keyreeve._async.launches import LaunchSettingClient

        return LaunchSettingClient(self._caller)

    @cached_property
    def resolution(self) -> "ResolutionClient":
        """Which credential a launch uses, and why."""
        from keyreeve._async.resolution import ResolutionClient

        return ResolutionClient(self._caller)

    @cached_property
    def host_keys(self) -> "HostKeyClient":
        """The SSH host key of the gateways."""
        from keyreeve._async.host_keys import HostKeyClient

        return HostKeyClient(self._caller)

    @cached_property
    def files(self) -> "KeyFileClient":
        """Keys, requests, certificates and bundles of servers."""
        from keyreeve._async.key_files import KeyFileClient

        return KeyFileClient(self._caller)


class MembershipClient(ServiceClient):
    """The membership service; reached as `Client.membership`."""

    @cached_property
    def arrays(self) -> "ArrayClient":
        """Arrays of servers."""
        from keyreeve._async.arrays import ArrayClient

        return ArrayClient(self._caller)

    @cached_property
    def members(self) -> "MemberClient":
        """Their members."""
        from keyreeve._async.members import MemberClient

        return MemberClient(self._caller)

    @cached_property
    def bundles(self) -> "BundleClient":
        """The certificates that members trust, as epochs."""
        from keyreeve._async.bundles import BundleClient

        return BundleClient(self._caller)

    @cached_property
    def rotations(self) -> "RotationClient":
        """Changes of the CA of an array."""
        from keyreeve._async.rotations import RotationClient

        return RotationClient(self._caller)

    @cached_property
    def settings(self) -> "SettingClient":
        """Settings of arrays and servers."""
        from keyreeve._async.array_settings import SettingClient

        return SettingClient(self._caller)


class GatewayClient(ServiceClient):
    """The gateway, which has no operations and no audit log of its own; reached as `Client.gateway`."""

    @cached_property
    def commands(self) -> "LegacyCommandClient":
        """Command lines of the legacy products."""
        from keyreeve._async.legacy_commands import LegacyCommandClient

        return LegacyCommandClient(self._channel)
