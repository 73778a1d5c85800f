"""Translation between messages and values of operators' sessions."""

from datetime import UTC
from typing import Any

from keyreeve import session_values as values
from keyreeve import wire
from keyreeve.ca.v1 import operator_service_pb2 as operator_pb
from keyreeve.ca.v1 import operator_session_service_pb2 as pb
from keyreeve.proof_wire import to_certificate_proof
from keyreeve.tickets import SESSION_METHODS
from keyreeve.values import SshKey


def proof_field(proof: values.CertificateProof | values.SshProof) -> dict[str, Any]:
    """The field of OpenSessionRequest that a proof belongs to."""
    match proof:
        case values.CertificateProof():
            return {"certificate": to_certificate_proof(proof)}
        case values.SshProof(session_id, user_name, algorithm, public_key, signature):
            return {
                "ssh": pb.SshProof(
                    session_id=session_id,
                    user_name=user_name,
                    algorithm=algorithm,
                    public_key=public_key,
                    signature=signature,
                )
            }


def from_session(message: pb.OperatorSession) -> values.OperatorSession:
    """Translate a session."""
    return values.OperatorSession(
        name=message.name,
        identity=message.identity,
        person_uid=message.person_uid,
        gateway=message.gateway,
        method=wire.from_number(SESSION_METHODS, message.method),
        credential=message.credential,
        client_address=message.client_address,
        audiences=tuple(message.audiences),
        method_families=tuple(message.method_families),
        opened_at=message.open_time.ToDatetime(UTC),
        ends_at=message.end_time.ToDatetime(UTC),
        closed_at=message.close_time.ToDatetime(UTC) if message.HasField("close_time") else None,
        closed_by=message.closer,
    )


def from_opened_session(message: pb.OpenSessionResponse) -> values.OpenedSession:
    """Translate a session and its first ticket."""
    ticket = values.Ticket(message.ticket, message.ticket_expire_time.ToDatetime(UTC))
    return values.OpenedSession(from_session(message.session), ticket)


def from_renewed_session(message: pb.RenewSessionResponse) -> values.Ticket:
    """Translate the next ticket."""
    return values.Ticket(message.ticket, message.ticket_expire_time.ToDatetime(UTC))


def from_ssh_key(message: operator_pb.SshKey) -> SshKey:
    """Translate a key or an SSH CA of an operator."""
    return SshKey(message.operator, wire.from_operator_key(message.key), message.certificate_authority)
