"""Full linting by pkilint: of CA certificates, of every profile with every authority before it is used, of samples.

pkilint knows the RFCs' rules for certificates one by one, which is more than the final check asks, and takes
milliseconds, which is more than the signing path has. Importing it takes up to a quarter of a second, so it is
imported at its first use.
"""

import os
import re
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from keyreeve.values import Name
from keyreeve_ca.certificates.plan import CertificatePlan, Issuer
from keyreeve_ca.certificates.sample_names import sample_names
from keyreeve_ca.certificates.serials import MAX_BLOCK_ID, SEED_BYTES, serial
from keyreeve_ca.certificates.template import Template
from keyreeve_ca.profiles.profile import CommonName, Profile, ProfileVersion, SubjectAttribute
from keyreeve_chassis.keys.key_types import KeyType
from keyreeve_chassis.keys.ports import Signer
from keyreeve_chassis.keys.sealed import KEK_BYTES, SealedKeyStore

_SERIOUS = frozenset({"FATAL", "ERROR", "WARNING", "NOTICE"})
_MAX_COMMON_NAME = 64
_SAMPLE_ATTRIBUTES = {SubjectAttribute.C: "NO", SubjectAttribute.EMAIL_ADDRESS: "sample@example.com"}
_RSA_BITS = {KeyType.RSA2048: 2048, KeyType.RSA3072: 3072, KeyType.RSA4096: 4096}


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding of pkilint."""

    severity: str
    """FATAL, ERROR, WARNING or NOTICE."""
    code: str
    field: str
    """Path of the field in the certificate, such as `certificate.tbsCertificate.validity`."""
    value: str
    message: str

    def __str__(self) -> str:
        return f"{self.severity} {self.code} at {self.field}: {self.message or self.value[:100]}"


@dataclass(frozen=True, slots=True)
class Excuse:
    """An entry of the allow list."""

    code: str
    field: re.Pattern[str]
    value: re.Pattern[str]
    reason: str

    def covers(self, finding: Finding) -> bool:
        """Return whether the entry excuses this finding."""
        same = finding.code == self.code
        return bool(same and self.field.fullmatch(finding.field) and self.value.fullmatch(finding.value))


@cache
def allow_list() -> tuple[Excuse, ...]:
    """Read the committed allow list (lint_allow_list.toml)."""
    text = files("keyreeve_ca").joinpath("lint_allow_list.toml").read_text("utf-8")
    return tuple(
        Excuse(entry["code"], re.compile(entry["field"]), re.compile(entry["value"]), entry["reason"].strip())
        for entry in tomllib.loads(text)["allow"]
    )


def lint_certificate(der: bytes) -> list[Finding]:
    """Return pkilint's findings for a certificate, from NOTICE upwards, without excused ones."""
    return [found for found in _run_pkilint()(der) if not any(excuse.covers(found) for excuse in allow_list())]


class PkilintLinter:
    """The `Linter` for activation and new profile versions. It blocks: call it off the event loop."""

    def __init__(self, trust_domain: str) -> None:
        self._trust_domain = trust_domain

    def certificate(self, der: bytes) -> Sequence[str]:
        """Lint one certificate; one line for each finding."""
        return [str(finding) for finding in lint_certificate(der)]

    def profile(self, version: ProfileVersion, issuer: Issuer) -> Sequence[str]:
        """Lint sample certificates of a profile from an authority; each distinct finding once."""
        findings = (
            found for der in sample_certificates(version, issuer, self._trust_domain) for found in lint_certificate(der)
        )
        return list(dict.fromkeys(map(str, findings)))


def sample_certificates(version: ProfileVersion, issuer: Issuer, trust_domain: str) -> list[bytes]:
    """Create sample certificates of a profile: every key type, and every type of name at its limits.

    They have the issuer's names and are signed by a throwaway key.
    """
    profile = version.profile
    template = Template(version, issuer)
    signer = _throw_away_signer(issuer.key_type)
    names = sample_names(profile, trust_domain)
    keys = sorted(profile.keys)
    # A certificate's key changes its key, key identifier and key usage and nothing else, so one key type is enough
    # for the rest.
    variants = [(key_type, names[0]) for key_type in keys] + [(keys[0], several) for several in names[1:]]
    certificates = []
    for number, (key_type, several) in enumerate(variants):
        for common_name in _common_names(profile.common_name, several):
            not_before = issuer.not_before
            seconds = int(profile.maximum_lifetime.total_seconds())
            plan = CertificatePlan(
                profile=version,
                spki=_sample_key(key_type),
                key_type=key_type,
                common_name=common_name,
                names=several,
                attributes=_attributes(profile),
                not_before=not_before,
                not_after=min(not_before + seconds - 1, issuer.not_after),
            )
            tbs = template.tbs(plan, serial(MAX_BLOCK_ID, bytes(SEED_BYTES), number), number)
            certificates.append(template.certificate(tbs, signer.sign(tbs)))
    return certificates


def _attributes(profile: Profile) -> tuple[tuple[SubjectAttribute, str], ...]:
    """Return the fixed attributes of a subject, and a value for each that is kept."""
    fixed = dict(profile.fixed_attributes)
    return tuple(
        (attribute, fixed.get(attribute, _SAMPLE_ATTRIBUTES.get(attribute, "Sample")))
        for attribute in SubjectAttribute
        if attribute in fixed or attribute in profile.kept_attributes
    )


def _common_names(rule: CommonName, names: tuple[Name, ...]) -> list[str | None]:
    first = next((name.value for name in names if name.type == "dns" and len(name.value) <= _MAX_COMMON_NAME), None)
    if rule is CommonName.REQUIRED and first is not None:
        return [first]
    return [None] if rule is CommonName.FORBIDDEN or first is None else [None, first]


@cache
def _throw_away_signer(key_type: KeyType) -> Signer:
    store = SealedKeyStore(os.urandom(KEK_BYTES), "lint")
    return store.open(store.generate(key_type))


@cache
def _sample_key(key_type: KeyType) -> bytes:
    """Return a public key of this type.

    No private key is needed, so an RSA modulus is any odd number of the right size.
    """
    bits = _RSA_BITS.get(key_type)
    if bits is None:
        return SealedKeyStore(os.urandom(KEK_BYTES), "lint").generate(key_type).spki
    modulus = int.from_bytes(b"\xff" + os.urandom(bits // 8 - 1), "big") | 1
    key = rsa.RSAPublicNumbers(65537, modulus).public_key()
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


@cache
def _run_pkilint() -> Callable[[bytes], list[Finding]]:
    from pkilint import loader
    from pkilint.pkix import certificate, extension, name

    validator = certificate.create_pkix_certificate_validator_container(
        certificate.create_decoding_validators(name.ATTRIBUTE_TYPE_MAPPINGS, extension.EXTENSION_MAPPINGS),
        [
            certificate.create_issuer_validator_container([]),
            certificate.create_validity_validator_container(),
            certificate.create_subject_validator_container([]),
            certificate.create_extensions_validator_container([]),
            certificate.create_spki_validator_container([]),
        ],
    )

    def run(der: bytes) -> list[Finding]:
        try:
            root = loader.load_certificate(der, "certificate").root
        except ValueError as error:
            return [Finding("FATAL", "unreadable", "certificate", "", str(error))]
        return [
            Finding(
                severity=description.finding.severity.name,
                code=description.finding.code,
                field=result.node.path,
                value=str(result.node.pdu),
                message=description.message or "",
            )
            for result in validator.validate(root)
            for description in result.finding_descriptions
            if description.finding.severity.name in _SERIOUS
        ]

    return run
