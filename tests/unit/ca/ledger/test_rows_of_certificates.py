"""One list of columns makes the tuple of a certificate, its INSERT and its COPY."""

from dataclasses import fields

from keyreeve_ca.ledger.ports import IssuedCertificate
from keyreeve_ca.ledger.wire import COLUMNS, DERIVED, FIELDS, POSTGRESQL_TYPES, row


def test_the_fields_on_their_way_are_those_of_an_issued_certificate_in_order() -> None:
    assert tuple(field.name for field in fields(IssuedCertificate)) == FIELDS
    assert COLUMNS[-len(DERIVED) :] == DERIVED


def test_a_row_has_a_value_and_a_type_for_each_column() -> None:
    certificate = tuple("identity" if name == "identity" else name for name in FIELDS)
    made = dict(zip(COLUMNS, row(certificate, 7), strict=True))
    assert made == {name: name for name in FIELDS[:-1]} | {"block_number": 7, "identity_crc": 0x6A95E9C4}
    assert len(POSTGRESQL_TYPES) == len(COLUMNS)
