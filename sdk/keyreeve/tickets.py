"""Tickets, with which a gateway calls on behalf of an operator: how they are written and read (docs/protocols.md)."""

from typing import TypeVar

from google.protobuf.message import DecodeError, Message
from google.protobuf.timestamp_pb2 import Timestamp

from keyreeve.ca.v1 import operator_session_service_pb2 as pb
from keyreeve.length_prefix import length_prefixed
from keyreeve.session_values import SessionMethod, SignedTicket, TicketContents

M = TypeVar("M", bound=Message)

LARGEST = 4096
"""Octets of a ticket."""
SESSION_METHODS = {
    SessionMethod.CERTIFICATE: pb.SESSION_METHOD_CERTIFICATE,
    SessionMethod.SSH_KEY: pb.SESSION_METHOD_SSH_KEY,
    SessionMethod.SSH_CERTIFICATE: pb.SESSION_METHOD_SSH_CERTIFICATE,
}
_LABEL = b"keyreeve-ticket-1"


def ticket_message(trust_domain: str, contents: bytes) -> bytes:
    """Encode what the CA service signs."""
    return length_prefixed(_LABEL, trust_domain.encode(), contents)


def encode_contents(contents: TicketContents) -> bytes:
    """Write what a ticket says."""
    return pb.TicketContents(
        session=contents.session,
        identity=contents.identity,
        person_uid=contents.person_uid,
        gateway_spki_sha256=contents.gateway_spki_sha256,
        audiences=contents.audiences,
        method_families=contents.method_families,
        method=SESSION_METHODS[contents.method],
        certificate_serial=contents.certificate_serial,
        issue_time=Timestamp(seconds=contents.issued_at),
        expire_time=Timestamp(seconds=contents.expires_at),
        session_open_time=Timestamp(seconds=contents.session_opened_at),
        session_end_time=Timestamp(seconds=contents.session_ends_at),
    ).SerializeToString(deterministic=True)


def decode_contents(data: bytes) -> TicketContents:
    """Read what a ticket says. Raises `ValueError`, also for what this release does not know."""
    message = _read(pb.TicketContents(), data)
    methods = [method for method, number in SESSION_METHODS.items() if number == message.method]
    if not methods:
        raise ValueError(f"the method {message.method} is unknown")
    return TicketContents(
        message.session,
        message.identity,
        message.person_uid,
        message.gateway_spki_sha256,
        tuple(message.audiences),
        tuple(message.method_families),
        methods[0],
        message.certificate_serial,
        message.issue_time.seconds,
        message.expire_time.seconds,
        message.session_open_time.seconds,
        message.session_end_time.seconds,
    )


def encode_ticket(ticket: SignedTicket) -> bytes:
    """Write a ticket for the metadata of a call."""
    return pb.Ticket(
        contents=ticket.contents, signature=ticket.signature, signer_der=ticket.signer_der
    ).SerializeToString(deterministic=True)


def decode_ticket(data: bytes) -> SignedTicket:
    """Read a ticket. Raises `ValueError`."""
    message = _read(pb.Ticket(), data)
    return SignedTicket(message.contents, message.signature, message.signer_der)


def _read(message: M, data: bytes) -> M:
    if len(data) > LARGEST:
        raise ValueError(f"it has more than {LARGEST} octets")
    try:
        message.ParseFromString(data)
    except DecodeError:
        raise ValueError("its bytes are no message") from None
    size = message.ByteSize()
    message.DiscardUnknownFields()
    if message.ByteSize() != size:
        raise ValueError("it holds fields that this release does not know")
    return message
