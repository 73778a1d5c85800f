"""Which certificate a member accepts from another one: rules without I/O."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier

from keyreeve.errors import (
    PeerCertificateExpired,
    PeerCertificateNotYetValid,
    PeerCertificateRevoked,
    PeerIdentityInvalid,
    PeerIssuerUnknown,
    PeerNotMember,
)
from keyreeve.trusted_certificates import issuer_among
from keyreeve_agent.material.fitting import dns_names, peer_name
from keyreeve_agent.material.values import RollMember

_CLIENT, _SERVER = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH


class PeerKind(Enum):
    """Who presents a certificate on a peer connection."""

    MEMBER = "member"
    MEMBERSHIP = "membership service"
    """With a `peer-check` certificate, which only it gets; good for a ping alone."""


@dataclass(frozen=True, slots=True)
class Peer:
    """An accepted peer."""

    kind: PeerKind
    name: str


@dataclass(frozen=True, slots=True)
class PeerTrust:
    """What decides about peers; replaced as a whole on each change."""

    trust_domain: str
    array: str
    authorities: tuple[x509.Certificate, ...]
    """The bundle. Each may sign certificates of members: an introduced one refuses to do so by itself."""
    revoked: frozenset[tuple[bytes, int]]
    """Issuer's name (DER) and serial number."""
    members: Mapping[str, RollMember]
    """The roll by peer DNS name."""

    def accept(self, certificate: x509.Certificate, now: float, *, purpose: ObjectIdentifier = _CLIENT) -> Peer:
        """Return whose certificate it is. Raises the `Peer*` errors of `keyreeve.errors`."""
        authority = issuer_among(certificate, self.authorities)
        if authority is None:
            raise PeerIssuerUnknown("the certificate was not issued by a CA of this array's bundle")
        for one in (certificate, authority):
            if now >= one.not_valid_after_utc.timestamp() + 1:
                raise PeerCertificateExpired("the certificate, or that of its CA, has expired")
            if now < one.not_valid_before_utc.timestamp():
                raise PeerCertificateNotYetValid("the certificate, or that of its CA, is not valid yet")
        if (certificate.issuer.public_bytes(), certificate.serial_number) in self.revoked:
            raise PeerCertificateRevoked(
                "the certificate has been revoked", metadata={"serial": f"{certificate.serial_number:032x}"}
            )
        if purpose not in _purposes(certificate):
            raise PeerIdentityInvalid("the certificate is for another purpose")
        return self._identify(certificate)

    def accept_server(self, certificate: x509.Certificate, name: str, now: float) -> Peer:
        """The connect check: the certificate of the member with this name. Raises as `accept`."""
        peer = self.accept(certificate, now, purpose=_SERVER)
        if (peer.kind, peer.name) != (PeerKind.MEMBER, name):
            raise PeerIdentityInvalid(f"the certificate is for {peer.name}, and {name} was dialed")
        return peer

    def _identify(self, certificate: x509.Certificate) -> Peer:
        names = dns_names(certificate)
        if len(names) == 1 and names[0].endswith(f".probe.{self.trust_domain}"):
            if _purposes(certificate) != {_CLIENT}:
                raise PeerIdentityInvalid("a check is presented with a client certificate")
            return Peer(PeerKind.MEMBERSHIP, names[0])
        name = peer_name(certificate)
        if name is None:
            raise PeerIdentityInvalid("a peer certificate has one DNS name, which is its CN")
        member = self.members.get(name)
        if member is None or not member.belongs_to(self.array):
            raise PeerNotMember(f"{name} is not a member of {self.array}", metadata={"member": name})
        return Peer(PeerKind.MEMBER, name)


def _purposes(certificate: x509.Certificate) -> set[ObjectIdentifier]:
    try:
        return set(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        return set()
