"""Values and messages correspond."""

from datetime import datetime, timedelta

import pytest
from google.protobuf.descriptor import EnumDescriptor

from keyreeve import operation_wire, wire
from keyreeve.ca.v1 import authority_service_pb2 as authority_pb
from keyreeve.ca.v1 import certificate_service_pb2 as certificate_pb
from keyreeve.ca.v1 import crl_reason_pb2
from keyreeve.ca.v1 import profile_service_pb2 as profile_pb
from keyreeve.errors import FieldInvalid, KeyreeveError
from keyreeve.operation_values import Waiting
from keyreeve.operations.v1 import operation_service_pb2 as operation_pb
from keyreeve.values import AuthorityState, Hierarchy, KeyType
from support.sdk_calls import AUTHORITY, BEGIN, CERTIFICATE, END, OPERATION, PROFILE, stamp

CRL_REASON = crl_reason_pb2.CrlReason.DESCRIPTOR

TABLES = [
    (wire.HIERARCHIES, authority_pb.Hierarchy.DESCRIPTOR),
    (wire.KINDS, authority_pb.AuthorityKind.DESCRIPTOR),
    (wire.AUTHORITY_STATES, authority_pb.AuthorityState.DESCRIPTOR),
    (wire.AUTHORITY_KEY_TYPES, authority_pb.AuthorityKeyType.DESCRIPTOR),
    (wire.CRL_REASONS, CRL_REASON),
    (wire.NAME_TYPES, certificate_pb.NameType.DESCRIPTOR),
    (wire.CERTIFICATE_STATES, certificate_pb.CertificateState.DESCRIPTOR),
    (operation_wire.OPERATION_STATES, operation_pb.OperationState.DESCRIPTOR),
    (wire.OUTCOMES, profile_pb.SimulatedOutcome.DESCRIPTOR),
]


@pytest.mark.parametrize(("table", "enumeration"), TABLES, ids=[descriptor.name for _, descriptor in TABLES])
def test_every_choice_of_the_contract_has_a_value_of_its_name(
    table: dict[KeyType, int], enumeration: EnumDescriptor
) -> None:
    numbers = {value.name: value.number for value in enumeration.values if value.number or enumeration is CRL_REASON}
    assert sorted(table.values()) == sorted(numbers.values())
    for choice, number in table.items():
        assert enumeration.values_by_number[number].name.endswith(f"_{choice.name}")


def test_a_choice_of_a_newer_service_is_an_error_and_not_a_guess() -> None:
    message = authority_pb.Authority()
    message.CopyFrom(AUTHORITY)
    message.state = 99  # type: ignore[assignment]
    with pytest.raises(KeyreeveError, match="AuthorityState 99"):
        wire.from_authority(message)


def test_an_authority_is_what_the_message_says() -> None:
    authority = wire.from_authority(AUTHORITY)
    assert (authority.hierarchy, authority.state, authority.key_type) == (
        Hierarchy.ESTATE,
        AuthorityState.PENDING,
        KeyType.P384,
    )
    assert (authority.not_before, authority.not_after) == (BEGIN, END)
    assert authority.lifetime == timedelta(hours=1)
    assert authority.permitted_dns_suffixes == ("example.test",)
    assert authority.activated_at is None


def test_a_certificate_and_a_profile_are_what_the_messages_say() -> None:
    certificate = wire.from_certificate(CERTIFICATE)
    assert certificate.serial == certificate.name.rpartition("/")[2]
    assert certificate.profile_version == 3
    assert certificate.pem().startswith("-----BEGIN CERTIFICATE-----\n")
    profile = wire.from_profile(PROFILE)
    assert (profile.version, profile.created_at, profile.built_in) == (3, BEGIN, False)


def test_an_operation_says_what_it_waits_for_and_since_when() -> None:
    message = operation_pb.Operation()
    message.CopyFrom(OPERATION)
    assert operation_wire.from_operation(message).waiting == ()
    message.waiting.add(resource="members/web-1", reason="restart").start_time.CopyFrom(stamp(BEGIN))
    assert operation_wire.from_operation(message).waiting == (Waiting("members/web-1", "restart", BEGIN),)


def test_a_resource_may_be_named_by_its_last_part() -> None:
    assert wire.resource_name("profiles", "server") == wire.resource_name("profiles", "profiles/server")


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(FieldInvalid, match="expires_before"):
        wire.to_timestamp(datetime(2026, 1, 1), "expires_before")  # noqa: DTZ001  # what it is about
