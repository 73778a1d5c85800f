"""Authorities, profiles and plans for tests of everything between a plan and a certificate."""

from dataclasses import dataclass, replace
from datetime import timedelta
from functools import lru_cache
from hashlib import sha256
from ipaddress import ip_network

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from keyreeve.identity import Role
from keyreeve.values import Hierarchy, Name, NameType
from keyreeve_ca.authorities.ca_certificate import issue_authority
from keyreeve_ca.authorities.ca_certificate_plan import standard_issuing, standard_root
from keyreeve_ca.certificates.plan import CertificatePlan, Issuer
from keyreeve_ca.certificates.serials import serial
from keyreeve_ca.certificates.signers import IssuingSigner
from keyreeve_ca.profiles.profile import (
    CommonName,
    DnsRule,
    EmailRule,
    ExtendedKeyUsage,
    IpRule,
    KeyUsage,
    Profile,
    ProfileVersion,
    UriRule,
)
from keyreeve_chassis.keys.key_types import KeyType
from keyreeve_chassis.keys.ports import SealedKey, Signer
from keyreeve_chassis.keys.sealed import SealedKeyStore
from support.rsa_keys import shared_rsa_key

TRUST_DOMAIN = "example.test"
NOW = 1_800_000_000
"""2027-01-15T08:00:00Z"""
SEED = bytes(range(32))
STORE = SealedKeyStore(b"k" * 32, "keyreeve-ca")
URL = "http://ca.example.test:8080"
_ROOT, _ISSUING = 100, 101

PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True)
class Authority:
    """An issuing CA with the key that signs for it, raw since tests also sign what the final check would refuse; its root."""

    issuer: Issuer
    signer: Signer
    root_der: bytes


def private_key(key_type: KeyType, which: int = 0) -> PrivateKey:
    """One key per type and number for the whole test process: RSA keys are slow to make."""
    return _private_key(key_type, which)


@lru_cache
def _private_key(key_type: KeyType, which: int) -> PrivateKey:
    match key_type:
        case KeyType.P256:
            return ec.generate_private_key(ec.SECP256R1())
        case KeyType.P384:
            return ec.generate_private_key(ec.SECP384R1())
        case KeyType.ED25519:
            return ed25519.Ed25519PrivateKey.generate()
    return shared_rsa_key(int(key_type.value[3:]), which)


def spki(key_type: KeyType, which: int = 0) -> bytes:
    """The public half of `private_key` as SubjectPublicKeyInfo."""
    return private_key(key_type, which).public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


@lru_cache
def _signer(key_type: KeyType, which: int) -> Signer:
    """Sign with a key as the CA opens it; roots have one key, and issuing CAs another one."""
    key_id = f"{key_type}-{which}"
    private = private_key(key_type, which).private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    return STORE.open(SealedKey(key_id, key_type, spki(key_type, which), STORE.seal("key", key_id, private)))


@lru_cache
def _authority(hierarchy: Hierarchy, key_type: KeyType) -> Authority:
    root_key, issuing_key = _signer(key_type, _ROOT), _signer(key_type, _ISSUING)
    root_plan = standard_root(hierarchy, TRUST_DOMAIN, f"{hierarchy}-root", key_type, NOW)
    root_der = issue_authority(
        root_plan, root_key.spki, serial(1, SEED, 0), IssuingSigner(root_key), issuer=None, crl_shard=0
    )
    root = Issuer(f"{hierarchy}-root", hierarchy, root_der, key_type, root_plan.not_before, root_plan.not_after, URL)
    plan = standard_issuing(hierarchy, TRUST_DOMAIN, f"{hierarchy}-issuing", key_type, NOW)
    issuing_der = issue_authority(
        plan, issuing_key.spki, serial(2, SEED, 0), IssuingSigner(root_key), issuer=root, crl_shard=3
    )
    issuer = Issuer(f"{hierarchy}-issuing", hierarchy, issuing_der, key_type, plan.not_before, plan.not_after, URL)
    return Authority(issuer, issuing_key, root_der)


def authority(hierarchy: Hierarchy = Hierarchy.ESTATE, key_type: KeyType = KeyType.P256) -> Authority:
    """A root and an issuing CA below it, both with keys of this type, issued at `NOW`; the same one each time."""
    return _authority(hierarchy, key_type)


PERMISSIVE = Profile(
    description="Everything that a profile can allow.",
    hierarchy=Hierarchy.ESTATE,
    requesters=frozenset({Role.ADMIN}),
    keys=frozenset(KeyType),
    default_lifetime=timedelta(days=30),
    maximum_lifetime=timedelta(days=30),
    backdate=timedelta(minutes=5),
    common_name=CommonName.OPTIONAL,
    dns=DnsRule(100, ("**",), wildcards=True),
    uri=UriRule(100, ("spiffe://other.test/{path*}", "https://{host}/{path*}")),
    ip=IpRule(100, (ip_network("0.0.0.0/0"), ip_network("::/0"))),
    email=EmailRule(100, ("**",)),
    minimum_names=1,
    key_usage=frozenset(KeyUsage),
    extended_key_usage=frozenset(ExtendedKeyUsage),
    one_identity_per_key=False,
    may_use_reserved_names=False,
)
IDENTITY = replace(
    PERMISSIVE,
    description="A SPIFFE ID of the control plane and nothing else.",
    hierarchy=Hierarchy.CONTROL,
    common_name=CommonName.FORBIDDEN,
    dns=None,
    uri=UriRule(1, ("spiffe://{trust_domain}/members/{name}",)),
    ip=None,
    email=None,
    key_usage=frozenset({KeyUsage.DIGITAL_SIGNATURE}),
)
SERVICE = replace(
    IDENTITY,
    description="A service of the control plane.",
    dns=DnsRule(1, ("{role}.svc.{trust_domain}",)),
    uri=UriRule(1, ("spiffe://{trust_domain}/services/{role}/{instance}",)),
    minimum_names=2,
    may_use_reserved_names=True,
)


def version_of(profile: Profile, name: str = "test") -> ProfileVersion:
    """A profile as its first version; the hash only has to differ from other profiles'."""
    return ProfileVersion(name, 1, sha256(repr(profile).encode()).digest(), "{}", profile)


def dns(*names: str) -> tuple[Name, ...]:
    """DNS names."""
    return tuple(Name(NameType.DNS, name) for name in names)


def uri(*names: str) -> tuple[Name, ...]:
    """URIs."""
    return tuple(Name(NameType.URI, name) for name in names)


def plan_for(
    profile: Profile = PERMISSIVE,
    *,
    key_type: KeyType = KeyType.P256,
    names: tuple[Name, ...] = dns("web.example.test"),
    common_name: str | None = None,
    not_before: int = NOW - 300,
    seconds: int = 30 * 86400,
) -> CertificatePlan:
    """A plan that is valid for `seconds`, counting both ends."""
    return CertificatePlan(
        version_of(profile), spki(key_type), key_type, common_name, names, not_before, not_before + seconds - 1
    )
