"""How this member sees its array: what its TLS stacks have loaded, the roll, and which peers it reaches."""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field

from cryptography import x509

from keyreeve.values import to_pem
from keyreeve_agent.material.fitting import authorities_of
from keyreeve_agent.material.values import Material, RollMember
from keyreeve_agent.peers.acceptance import PeerTrust


@dataclass(frozen=True, slots=True)
class PeerReach:
    """What this member found when it dialed another one."""

    member: str
    reachable: bool
    problem: str = ""
    """The reason if it is not reachable."""
    clock_difference_ms: int = 0
    epoch: int = 0


@dataclass(frozen=True, slots=True)
class LoadedMaterial:
    """Material as TLS stacks use it."""

    material: Material
    certificate: x509.Certificate
    certificate_pem: bytes
    bundle_pem: bytes

    @classmethod
    def of(cls, material: Material) -> "LoadedMaterial":
        """Parse a set that matches."""
        return cls(
            material,
            x509.load_der_x509_certificate(material.certificate_der),
            to_pem([material.certificate_der]).encode(),
            to_pem(sorted(one.certificate_der for one in material.epoch.authorities)).encode(),
        )

    def is_revoked(self, revoked: frozenset[tuple[bytes, int]]) -> bool:
        """Whether the certificate is among what CRLs revoke (`revoked_by`)."""
        return (self.certificate.issuer.public_bytes(), self.certificate.serial_number) in revoked

    def is_valid(self, now: float) -> bool:
        """Whether the certificate has not expired."""
        return now < self.certificate.not_valid_after_utc.timestamp()


@dataclass
class ArrayView:
    """The present view. Belongs to one event loop; everything in it is replaced, never changed."""

    name: str
    """This member's peer DNS name."""
    trust_domain: str
    boot_id: str
    loaded: LoadedMaterial | None = None
    trust: PeerTrust | None = None
    roll: Mapping[str, RollMember] = field(default_factory=dict)
    reached: Mapping[str, PeerReach] = field(default_factory=dict)
    heard_at: float = float("-inf")
    """When the control plane last answered, in seconds since 1970."""
    problems: Mapping[str, str] = field(default_factory=dict)
    """What keeps this member from being up to date, by its subject."""

    def load(self, material: Material) -> None:
        """Use material from now on, on new connections and for each call on open ones."""
        self.loaded = LoadedMaterial.of(material)
        self._decide()

    def follow_roll(self, roll: Mapping[str, RollMember]) -> None:
        """Use a new state of the roll from now on."""
        self.roll = dict(roll)
        self._decide()

    def note(self, subject: str, problem: str | None) -> None:
        """Remember a problem, or that there is none any more."""
        rest = {key: value for key, value in self.problems.items() if key != subject}
        self.problems = rest if problem is None else {**rest, subject: problem}

    @property
    def array(self) -> str:
        """The array whose bundle is loaded; empty before there is one."""
        return "" if self.loaded is None else self.loaded.material.epoch.array

    @property
    def members(self) -> list[RollMember]:
        """The members of that array, in order of their names."""
        return [one for _, one in sorted(self.roll.items()) if one.belongs_to(self.array)]

    @property
    def primary(self) -> str:
        """The peer DNS name of the primary; empty if none is known."""
        return next((one.name for one in self.members if one.primary and one.array == self.array), "")

    def _decide(self) -> None:
        if self.loaded is None:
            return
        material = self.loaded.material
        self.trust = PeerTrust(
            self.trust_domain, self.array, authorities_of(material), revoked_by(material.crls_der), self.roll
        )


def revoked_by(crls_der: tuple[bytes, ...]) -> frozenset[tuple[bytes, int]]:
    """What CRLs revoke: issuer's name and serial number."""
    found: set[tuple[bytes, int]] = set()
    for der in crls_der:
        crl = x509.load_der_x509_crl(der)
        issuer = crl.issuer.public_bytes()
        found.update((issuer, one.serial_number) for one in crl)
    return frozenset(found)


def client_context(loaded: LoadedMaterial, certificate: str, key: str) -> ssl.SSLContext:
    """A TLS context that dials peers with the loaded certificate; `certificate` and `key` are its files."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.hostname_checks_common_name = False
    context.load_verify_locations(cadata=loaded.bundle_pem.decode())
    context.load_cert_chain(certificate, key)
    context.set_alpn_protocols(["h2"])
    return context
