"""CA certificates: encode a plan, check it with another library, sign it, verify it.

CA certificates are few, so this code is not tuned for speed.
"""

from cryptography import x509

from keyreeve_ca.authorities.ca_certificate_check import check_authority, check_signed_by
from keyreeve_ca.authorities.ca_certificate_plan import AuthorityPlan, NameConstraints, refuse_unsound
from keyreeve_ca.certificates import der_writer as der
from keyreeve_ca.certificates.algorithms import SIGNATURE_ALGORITHM
from keyreeve_ca.certificates.plan import Issuer
from keyreeve_ca.certificates.serials import block_of
from keyreeve_ca.certificates.signers import IssuingSigner
from keyreeve_ca.certificates.template import (
    OID_BASIC_CONSTRAINTS,
    OID_COMMON_NAME,
    OID_KEY_USAGE,
    VERSION_3,
    authority_information_access,
    authority_key_identifier,
    certificate,
    crl_distribution_points,
    key_identifier,
    subject_key_identifier,
)

_OID_ORGANIZATION = der.oid("2.5.4.10")
_OID_NAME_CONSTRAINTS = der.oid("2.5.29.30")
_KEY_CERT_SIGN, _CRL_SIGN = 5, 6


def issue_authority(
    plan: AuthorityPlan, spki: bytes, serial: bytes, signer: IssuingSigner, *, issuer: Issuer | None, crl_shard: int
) -> bytes:
    """Issue a CA certificate under a recorded serial number; `issuer` is None for a root, which signs itself.

    Raises `AuthorityRefused` when the plan would make an unsound issuer, `FinalCheckFailed` when the certificate
    differs from the plan. `crl_shard` is ignored for a root: no CRL can revoke a root, it is removed from trust bundles
    instead.
    """
    refuse_unsound(plan, spki, issuer)
    block_of(serial)
    tbs = _tbs(plan, spki, serial, signer, issuer=issuer, crl_shard=crl_shard)
    checked = check_authority(tbs, plan, spki, serial, issuer=issuer, crl_shard=crl_shard)
    signed = certificate(tbs, SIGNATURE_ALGORITHM[signer.key_type], signer.sign(checked))
    check_signed_by(signed, tbs, issuer)
    return signed


def _subject(plan: AuthorityPlan) -> bytes:
    organization = () if plan.organization is None else (der.utf8_attribute(_OID_ORGANIZATION, plan.organization),)
    return der.sequence(*organization, der.utf8_attribute(OID_COMMON_NAME, plan.common_name))


def _tbs(
    plan: AuthorityPlan, spki: bytes, serial: bytes, signer: IssuingSigner, *, issuer: Issuer | None, crl_shard: int
) -> bytes:
    subject = _subject(plan)
    key_id = key_identifier(spki)
    if issuer is None:
        issuer_name, issuer_key_id, addresses = subject, key_id, b""
    else:
        issuer_name = x509.load_der_x509_certificate(issuer.certificate_der).subject.public_bytes()
        issuer_key_id = key_identifier(signer.spki)
        addresses = crl_distribution_points(issuer.url, issuer.authority_id, crl_shard)
        addresses += authority_information_access(issuer.url, issuer.authority_id)
    basic_constraints = der.sequence(der.TRUE, der.integer(plan.path_length))
    extensions = (
        authority_key_identifier(issuer_key_id)
        + subject_key_identifier(key_id)
        + der.extension(OID_KEY_USAGE, der.named_bits({_KEY_CERT_SIGN, _CRL_SIGN}), critical=True)
        + der.extension(OID_BASIC_CONSTRAINTS, basic_constraints, critical=True)
        + _name_constraints(plan.constraints)
        + addresses
    )
    return der.sequence(
        VERSION_3,
        der.tlv(der.INTEGER, serial),
        SIGNATURE_ALGORITHM[signer.key_type],
        issuer_name,
        der.validity(plan.not_before, plan.not_after),
        subject,
        spki,
        der.tlv(0xA3, der.sequence(extensions)),
    )


def _name_constraints(constraints: NameConstraints) -> bytes:
    def subtrees(tag: int, dns: tuple[str, ...], uri: tuple[str, ...]) -> bytes:
        bases = [der.tlv(0x82, name.encode("ascii")) for name in dns] + [
            der.tlv(0x86, host.encode("ascii")) for host in uri
        ]
        return der.tlv(tag, b"".join(der.sequence(base) for base in bases)) if bases else b""

    value = subtrees(0xA0, constraints.permitted_dns, constraints.permitted_uri)
    value += subtrees(0xA1, constraints.excluded_dns, constraints.excluded_uri)
    return der.extension(_OID_NAME_CONSTRAINTS, der.sequence(value), critical=True) if value else b""
