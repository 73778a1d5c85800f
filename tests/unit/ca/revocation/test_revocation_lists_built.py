"""CRLs read by libraries that share no code with the encoder."""

import os
from datetime import UTC, datetime

import pytest
from cryptography import x509
from pkilint import loader, pkix
from pkilint.pkix import crl, extension, name

from keyreeve.errors import FinalCheckFailed
from keyreeve_ca.certificates.serials import serial
from keyreeve_ca.certificates.signers import CrlSigner
from keyreeve_ca.revocation.crl import ListEntry, build_revocation_list
from keyreeve_chassis.keys.key_types import KeyType
from keyreeve_chassis.keys.ports import Signer
from keyreeve_chassis.keys.sealed import SealedKeyStore
from support.certificate_plans import authority

NOW = 1_800_000_000
ENTRIES = [
    ListEntry(serial(7, b"s" * 32, 2), NOW - 30, 1),
    ListEntry(serial(7, b"s" * 32, 1), NOW - 20, 0),
    ListEntry(serial(9, b"s" * 32, 0), NOW - 10, 9),
]


def findings(der: bytes) -> list[str]:
    """What pkilint objects to."""
    validator = crl.create_pkix_crl_validator_container(
        [
            pkix.create_attribute_decoder(name.ATTRIBUTE_TYPE_MAPPINGS),
            pkix.create_extension_decoder(extension.EXTENSION_MAPPINGS),
        ],
        [
            crl.create_issuer_validator_container([]),
            crl.create_validity_validator_container([]),
            crl.create_extensions_validator_container([]),
        ],
    )
    results = validator.validate(loader.load_crl(der, "crl").root)
    return [
        f"{found.finding.severity.name} {found.finding.code} {found.message}"
        for result in results
        for found in result.finding_descriptions
        if found.finding.severity.name in ("FATAL", "ERROR", "WARNING", "NOTICE")
    ]


def build(key_type: KeyType = KeyType.P256, entries: list[ListEntry] = ENTRIES, number: int = 5) -> bytes:
    made = authority(key_type=key_type)
    issuer, signer = made.issuer, CrlSigner(made.signer)
    return build_revocation_list(
        issuer, signer, 3, number=number, this_update=NOW - 60, next_update=NOW + 86_400, entries=entries
    )


@pytest.mark.parametrize("key_type", [KeyType.P256, KeyType.P384, KeyType.RSA3072, KeyType.ED25519])
@pytest.mark.parametrize("entries", [ENTRIES, []], ids=["three", "none"])
def test_a_list_of_any_key_is_clean_and_says_what_was_meant(key_type: KeyType, entries: list[ListEntry]) -> None:
    issuer = authority(key_type=key_type).issuer
    der = build(key_type, entries)
    assert findings(der) == []
    made, parent = x509.load_der_x509_crl(der), x509.load_der_x509_certificate(issuer.certificate_der)
    assert made.is_signature_valid(parent.public_key())  # type: ignore[arg-type]
    assert made.next_update_utc == datetime.fromtimestamp(NOW + 86_400, UTC)
    assert [(one.serial_number, int(one.revocation_date_utc.timestamp())) for one in made] == [
        (int.from_bytes(one.serial), one.revoked_at) for one in sorted(entries, key=lambda one: one.serial)
    ]
    point = made.extensions.get_extension_for_class(x509.IssuingDistributionPoint)
    assert point.critical
    assert point.value.full_name == [x509.UniformResourceIdentifier(f"{issuer.url}/crl/{issuer.authority_id}/3.crl")]
    assert made.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number == 5
    key_id = made.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    assert key_id == parent.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest


def test_a_reason_that_was_unspecified_is_left_out() -> None:
    made = x509.load_der_x509_crl(build())
    reasons = {one.serial_number: [e.value.reason.name for e in one.extensions] for one in made}  # type: ignore[attr-defined]
    assert reasons == {
        int.from_bytes(ENTRIES[0].serial): ["key_compromise"],
        int.from_bytes(ENTRIES[1].serial): [],
        int.from_bytes(ENTRIES[2].serial): ["privilege_withdrawn"],
    }


def test_a_list_signed_by_another_key_is_not_let_out() -> None:
    issuer = authority().issuer
    store = SealedKeyStore(os.urandom(32), "keyreeve-ca")
    other: Signer = store.open(store.generate(KeyType.P256))
    with pytest.raises(FinalCheckFailed):
        build_revocation_list(issuer, other, 0, number=1, this_update=NOW, next_update=NOW + 1, entries=[])


def test_a_full_shard_stays_below_a_mebibyte() -> None:
    everything = [ListEntry(serial(block, b"s" * 32, n), NOW, 1) for block in range(5) for n in range(4096)]
    assert len(build(entries=everything)) < 1 << 20
