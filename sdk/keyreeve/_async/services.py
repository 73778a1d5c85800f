"""Clients of one service: those of every service, and of the CA, the vault and membership."""

from keyreeve._async.array_settings import SettingClient
from keyreeve._async.arrays import ArrayClient
from keyreeve._async.audit import AuditClient
from keyreeve._async.authorities import AuthorityClient
from keyreeve._async.bundles import BundleClient
from keyreeve._async.calls import Caller
from keyreeve._async.certificates import CertificateClient
from keyreeve._async.issuance import IssuanceClient
from keyreeve._async.key_files import KeyFileClient
from keyreeve._async.launches import LaunchSettingClient, ObjectClient
from keyreeve._async.members import MemberClient
from keyreeve._async.operations import OperationClient
from keyreeve._async.operators import OperatorClient
from keyreeve._async.profiles import ProfileClient
from keyreeve._async.resolution import ResolutionClient
from keyreeve._async.rotating import RotatingChannel
from keyreeve._async.rotations import RotationClient
from keyreeve._async.tokens import TokenClient
from keyreeve._async.trust import TrustClient
from keyreeve._async.vault import EntryClient
from keyreeve._async.vault_keys import KeyClient
from keyreeve._async.vault_policies import PolicyClient


class ServiceClient:
    """What every service offers; reached as `Client.service(name)`."""

    operations: OperationClient
    """Work that continues after the call that started it."""
    audit: AuditClient
    """The service's audit log."""

    def __init__(self, channel: RotatingChannel, caller: Caller) -> None:
        self._channel = channel
        self.operations = OperationClient(caller)
        self.audit = AuditClient(caller)

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

    certificates: CertificateClient
    """Sign, renew, look up."""
    authorities: AuthorityClient
    """The private CAs and the trust bundles."""
    profiles: ProfileClient
    """The rules of issuance."""
    tokens: TokenClient
    """Enrollment tokens."""
    operators: OperatorClient
    """The people who operate the control plane."""
    issuance: IssuanceClient
    """The switch that stops issuance everywhere."""
    trust: TrustClient
    """What decides about callers, for services."""

    def __init__(self, channel: RotatingChannel, caller: Caller, trust_domain: str, *, coalesce: bool) -> None:
        super().__init__(channel, caller)
        self.certificates = CertificateClient(caller, trust_domain, coalesce=coalesce)
        self.authorities = AuthorityClient(caller)
        self.profiles = ProfileClient(caller)
        self.tokens = TokenClient(caller)
        self.operators = OperatorClient(caller)
        self.issuance = IssuanceClient(caller)
        self.trust = TrustClient(caller)


class CredentialsClient(ServiceClient):
    """The credentials service; reached as `Client.credentials`."""

    entries: EntryClient
    """The entries of the vault."""
    keys: KeyClient
    """The keys that they are encrypted under, and the seal."""
    policies: PolicyClient
    """Who may read and manage them."""
    objects: ObjectClient
    """Application servers, applications and user profiles."""
    launch_settings: LaunchSettingClient
    """Launch settings of arrays and servers."""
    resolution: ResolutionClient
    """Which credential a launch uses, and why."""
    files: KeyFileClient
    """Keys, requests, certificates and bundles of servers."""

    def __init__(self, channel: RotatingChannel, caller: Caller) -> None:
        super().__init__(channel, caller)
        self.entries = EntryClient(caller)
        self.keys = KeyClient(caller)
        self.policies = PolicyClient(caller)
        self.objects = ObjectClient(caller)
        self.launch_settings = LaunchSettingClient(caller)
        self.resolution = ResolutionClient(caller)
        self.files = KeyFileClient(caller)


class MembershipClient(ServiceClient):
    """The membership service; reached as `Client.membership`."""

    arrays: ArrayClient
    """Arrays of servers."""
    members: MemberClient
    """Their members."""
    bundles: BundleClient
    """The certificates that members trust, as epochs."""
    rotations: RotationClient
    """Changes of the CA of an array."""
    settings: SettingClient
    """Settings of arrays and servers."""

    def __init__(self, channel: RotatingChannel, caller: Caller) -> None:
        super().__init__(channel, caller)
        self.arrays = ArrayClient(caller)
        self.members = MemberClient(caller)
        self.bundles = BundleClient(caller)
        self.rotations = RotationClient(caller)
        self.settings = SettingClient(caller)
