"""Translation between the messages of the credentials service and the values of the SDK."""

from collections.abc import Sequence
from datetime import UTC
from typing import Final

from keyreeve import vault_values
from keyreeve.credentials.v1 import access_policy_service_pb2 as policy_pb
from keyreeve.credentials.v1 import entry_service_pb2 as entry_pb
from keyreeve.credentials.v1 import key_service_pb2 as key_pb
from keyreeve.wire_fields import from_number, resource_name, to_number

KINDS: Final = {
    vault_values.EntryKind.PASSWORD: entry_pb.ENTRY_KIND_PASSWORD,
    vault_values.EntryKind.SMART_CARD: entry_pb.ENTRY_KIND_SMART_CARD,
}
SOURCES: Final = {
    vault_values.EntrySource.CALL: entry_pb.ENTRY_SOURCE_CALL,
    vault_values.EntrySource.DIALOG: entry_pb.ENTRY_SOURCE_DIALOG,
    vault_values.EntrySource.IMPORT: entry_pb.ENTRY_SOURCE_IMPORT,
}


def from_entry(message: entry_pb.Entry) -> vault_values.Entry:
    """Translate an entry."""
    return vault_values.Entry(
        name=message.name,
        owner=message.owner,
        resource=message.resource,
        user_name=message.user_name,
        kind=from_number(KINDS, message.kind),
        source=from_number(SOURCES, message.source),
        version=message.version,
        encryption=message.encryption,
        row_sha256=message.row_sha256,
        key=message.key,
        created_at=message.create_time.ToDatetime(UTC),
        updated_at=message.update_time.ToDatetime(UTC),
        domain=message.domain,
        used_at=message.use_time.ToDatetime(UTC) if message.HasField("use_time") else None,
    )


MEMBERSHIPS: Final = {
    vault_values.Membership.ANY: policy_pb.MEMBERSHIP_UNSPECIFIED,
    vault_values.Membership.MEMBER_OF_ARRAY: policy_pb.MEMBERSHIP_MEMBER_OF_ARRAY,
    vault_values.Membership.PRIMARY_OF_ARRAY: policy_pb.MEMBERSHIP_PRIMARY_OF_ARRAY,
}


def to_policy(name: str, rules: Sequence[vault_values.PolicyRule], version: int) -> policy_pb.Policy:
    """Make the message of a policy."""
    return policy_pb.Policy(
        name=resource_name("policies", name),
        version=version,
        rules=[
            policy_pb.PolicyRule(
                callers=rule.callers,
                membership=to_number(MEMBERSHIPS, rule.membership, "membership"),
                arrays=rule.arrays,
                owners=rule.owners,
                resources=rule.resources,
                purposes=rule.purposes,
            )
            for rule in rules
        ],
    )


def from_policy(message: policy_pb.Policy) -> vault_values.Policy:
    """Translate a policy."""
    return vault_values.Policy(
        name=message.name,
        version=message.version,
        rules=tuple(
            vault_values.PolicyRule(
                callers=tuple(rule.callers),
                purposes=tuple(rule.purposes),
                membership=from_number(MEMBERSHIPS, rule.membership),
                arrays=tuple(rule.arrays),
                owners=tuple(rule.owners),
                resources=tuple(rule.resources),
            )
            for rule in message.rules
        ),
        creator=message.creator,
        created_at=message.create_time.ToDatetime(UTC) if message.HasField("create_time") else None,
    )


def from_simulation(message: policy_pb.SimulatePolicyResponse) -> vault_values.PolicySimulation:
    """Translate the result of a simulation."""
    return vault_values.PolicySimulation(
        message.examined,
        message.newly_denied,
        message.newly_allowed,
        tuple(
            vault_values.SimulatedRead(
                one.caller, one.array, one.owner, one.resource, one.purpose, one.read_time.ToDatetime(UTC), one.allowed
            )
            for one in message.reads
        ),
    )


STAGES: Final = {
    vault_values.KeyStage.WRITER: key_pb.KEY_STAGE_WRITER,
    vault_values.KeyStage.DRAINING: key_pb.KEY_STAGE_DRAINING,
    vault_values.KeyStage.DESTROYING: key_pb.KEY_STAGE_DESTROYING,
    vault_values.KeyStage.DESTROYED: key_pb.KEY_STAGE_DESTROYED,
}


def from_key(message: key_pb.Key) -> vault_values.Key:
    """Translate a key."""
    return vault_values.Key(
        name=message.name,
        number=message.number,
        stage=from_number(STAGES, message.stage),
        wraps=message.wraps,
        values=message.values,
        created_at=message.create_time.ToDatetime(UTC),
        drained_at=message.drain_time.ToDatetime(UTC) if message.HasField("drain_time") else None,
        destroy_at=message.destroy_time.ToDatetime(UTC) if message.HasField("destroy_time") else None,
        destruction_requester=message.destruction_requester,
    )


def from_seal(message: key_pb.SealState) -> vault_values.SealState:
    """Translate the state of the seal."""
    changed_at = message.change_time.ToDatetime(UTC) if message.HasField("change_time") else None
    return vault_values.SealState(message.sealed, changed_at, message.changer, message.reason)


def from_key_state(message: key_pb.KeyState) -> vault_values.KeyState:
    """Translate the state of an array's keys."""
    return vault_values.KeyState(
        tuple(from_key(key) for key in message.keys), from_seal(message.seal), message.rotation
    )
