"""Sessions of operators at a gateway, and what their tickets are good for, over real mutual TLS on both databases."""

from dataclasses import replace
from datetime import timedelta

import grpc
import pytest
from cryptography import x509
from sqlalchemy import update

from keyreeve import Client, errors
from keyreeve.ca.v1 import operator_session_service_pb2 as pb
from keyreeve.caller_feed import KnownCallers
from keyreeve.identity import Role
from keyreeve.request_ids import new_request_id
from keyreeve.session_values import OpenedSession, SessionMethod
from keyreeve.status import error_from_rpc
from keyreeve.tickets import decode_contents, decode_ticket
from keyreeve.values import CrlReason
from keyreeve_ca.sessions.tables import operator_sessions
from support.gateway_sessions import GATEWAY, OTHER_GATEWAY, Gateway
from support.running_ca import ADMIN, AUDITOR, OPERATOR, WORKLOAD, RunningCa, refused, unique
from support.waiting import wait_for

pytestmark = pytest.mark.sqlite_first

RENEW = "/keyreeve.ca.v1.OperatorSessionService/RenewSession"


def renew(ca: RunningCa, tickets: list[bytes], path: str = GATEWAY) -> errors.KeyreeveError | None:
    """Renew with any number of tickets; return how that was refused."""
    call = ca.channel(path).unary_unary(
        RENEW, pb.RenewSessionRequest.SerializeToString, pb.RenewSessionResponse.FromString
    )
    try:
        call(pb.RenewSessionRequest(), timeout=20, metadata=[("keyreeve-ticket-bin", one) for one in tickets])
    except grpc.RpcError as failure:
        return error_from_rpc(failure, "ca")
    return None


def why(refusal: errors.KeyreeveError | None) -> tuple[str, str]:
    assert refusal is not None
    return refusal.reason, refusal.metadata.get("why", "")


def test_a_proof_opens_a_session_whose_tickets_say_who_it_is_and_whose_key_may_use_them(ca: RunningCa) -> None:
    gateway = Gateway(ca)
    opened = gateway.open(audiences=["membership"], method_families=["keyreeve.membership.v1.ArrayService"])
    session, contents = opened.session, decode_contents(decode_ticket(opened.ticket.data).contents)
    assert (session.identity, session.gateway) == (ca.identity(OPERATOR), ca.identity(GATEWAY))
    assert session.method is SessionMethod.CERTIFICATE
    assert session.client_address == "203.0.113.7"
    assert session.audiences == contents.audiences == ("ca", "membership")
    assert session.ends_at - session.opened_at == timedelta(hours=8)
    assert session.name == f"sessions/{contents.session}"
    assert (contents.identity, contents.person_uid) == (session.identity, session.person_uid)
    assert contents.gateway_spki_sha256 == gateway.spki_sha256
    assert contents.method_families == ("keyreeve.membership.v1.ArrayService",)
    assert contents.expires_at - contents.issued_at == 300
    assert contents.certificate_serial.hex() == session.credential


def test_each_ticket_gets_the_next_one_until_the_session_is_closed_on_every_worker(ca: RunningCa) -> None:
    gateway, elsewhere = Gateway(ca), Gateway(ca, worker=1)
    opened = gateway.open()
    ticket = gateway.on_behalf(opened).sessions.renew()
    assert decode_contents(decode_ticket(ticket.data).contents).session == opened.session.name.partition("/")[2]
    assert renew(ca, [ticket.data]) is None
    closed = ca.client(OPERATOR, worker=1).sessions.close(opened.session.name)
    assert closed.closed_by == ca.identity(OPERATOR)
    for there in (gateway, elsewhere):
        behalf = there.client.on_behalf(lambda: ticket.data)
        wait_for(
            "a refusal",
            lambda behalf=behalf: isinstance(failure_of(behalf), errors.TicketRefused | errors.SessionClosed),
        )
    assert isinstance(failure_of(gateway.on_behalf(opened)), errors.SessionClosed)
    assert ca.client(OPERATOR).sessions.close(opened.session.name) == closed


def failure_of(client: Client) -> errors.KeyreeveError | None:
    """How renewing is refused."""
    try:
        client.sessions.renew()
    except errors.KeyreeveError as failure:
        return failure
    return None


def test_a_proof_opens_one_session_and_a_repeated_request_is_answered_with_the_same(ca: RunningCa) -> None:
    gateway, request_id = Gateway(ca), new_request_id()
    proof = gateway.proof()
    first = gateway.client.sessions.open(proof, request_id=request_id)
    again = gateway.client.sessions.open(proof, request_id=request_id)
    assert again.session == first.session
    assert renew(ca, [again.ticket.data]) is None
    assert isinstance(refused(lambda: gateway.client.sessions.open(proof)), errors.SessionProofUsed)


def test_only_the_gateway_that_the_proof_names_opens_a_session_with_it_and_in_time(ca: RunningCa) -> None:
    gateway, other = Gateway(ca), Gateway(ca, OTHER_GATEWAY)
    proof = gateway.proof()
    for bad in (
        replace(proof, nonce=bytes(32)),
        replace(proof, nonce=b"short"),
        replace(proof, time=proof.time + 1),
        replace(proof, time=proof.time - 3600),
        replace(proof, signature=b"\x30"),
        replace(proof, certificate_der=b"\x30"),
        replace(proof, certificate_der=gateway.proof(ADMIN).certificate_der),
    ):
        assert isinstance(refused(lambda bad=bad: gateway.client.sessions.open(bad)), errors.SessionProofRefused)
    assert isinstance(refused(lambda: other.client.sessions.open(proof)), errors.SessionProofRefused)
    for who in (WORKLOAD, GATEWAY):
        assert isinstance(refused(lambda who=who: gateway.open(who)), errors.SessionProofRefused)
    gateway.client.sessions.open(proof)


def test_a_ticket_is_refused_from_another_key_altered_twice_or_from_who_is_no_gateway(ca: RunningCa) -> None:
    gateway = Gateway(ca)
    opened = gateway.open()
    ticket = opened.ticket.data
    Gateway(ca, OTHER_GATEWAY).open()
    assert why(renew(ca, [ticket], OTHER_GATEWAY)) == ("TICKET_REFUSED", "key")
    assert why(renew(ca, [ticket], ADMIN)) == ("TICKET_REFUSED", "caller")
    assert why(renew(ca, [ticket, ticket])) == ("TICKET_REFUSED", "count")
    assert why(renew(ca, [])) == ("ACCESS_DENIED", "")
    for at in range(0, len(ticket), 37):
        flipped = bytes([*ticket[:at], ticket[at] ^ 1, *ticket[at + 1 :]])
        assert why(renew(ca, [flipped])) == ("TICKET_REFUSED", "signature"), at
    for other in (b"", b"\xff", ticket[:-1], ticket + b"\x22\x00", bytes(5000)):
        assert why(renew(ca, [other])) == ("TICKET_REFUSED", "signature")
    assert renew(ca, [ticket]) is None


def test_a_ticket_is_refused_after_five_minutes_and_a_session_after_eight_hours(own_ca: RunningCa) -> None:
    gateway = Gateway(own_ca)
    opened = gateway.open()
    own_ca.clock.offset += 301
    assert isinstance(failure_of(gateway.on_behalf(opened)), errors.TicketExpired)
    opened = gateway.open()
    for _ in range(8 * 12):
        own_ca.clock.offset += 299
        opened = replace(opened, ticket=gateway.on_behalf(opened).sessions.renew())
    assert opened.ticket.expires_at <= opened.session.ends_at
    own_ca.clock.offset += 299
    assert isinstance(failure_of(gateway.on_behalf(opened)), errors.TicketExpired | errors.SessionClosed)


def test_an_operator_who_is_removed_or_in_another_role_or_whose_certificate_is_revoked_has_no_session(
    ca: RunningCa,
) -> None:
    gateway, admin = Gateway(ca), ca.client()

    def session_of(role: str) -> tuple[str, OpenedSession]:
        name = unique("person")
        return name, gateway.open(f"operators/{role}/{name}")

    (removed, first), (changed, second), (_, third) = map(session_of, ("operator", "auditor", "operator"))
    admin.operators.remove(removed)
    ca.write(lambda tx: ca.operators.change_role(tx, changed, Role.OPERATOR, ca.identity(ADMIN)))
    admin.certificates.revoke(third.session.credential, CrlReason.SUPERSEDED)
    for opened in (first, second, third):
        behalf = gateway.on_behalf(opened)
        wait_for("the end of a session", lambda behalf=behalf: isinstance(failure_of(behalf), errors.SessionClosed))


def test_operators_see_and_close_their_own_sessions_and_admins_all(ca: RunningCa) -> None:
    gateway = Gateway(ca)
    own, others = gateway.open(OPERATOR).session.name, gateway.open(ADMIN).session.name
    for who, seen in ((OPERATOR, {own}), (AUDITOR, {own, others}), (ADMIN, {own, others})):
        found = {one.name for one in ca.client(who).sessions.list(page_size=2)}
        assert found & {own, others} == seen, who
    for who in (OPERATOR, AUDITOR):
        assert isinstance(refused(lambda who=who: ca.client(who).sessions.close(others)), errors.SessionNotFound)
    assert isinstance(refused(lambda: ca.client(AUDITOR).sessions.close(own)), errors.SessionNotFound)
    assert isinstance(refused(lambda: ca.client(ADMIN).sessions.close("0" * 32)), errors.SessionNotFound)
    ca.client(ADMIN).sessions.close(own)
    assert own not in {one.name for one in ca.client(ADMIN).sessions.list()}
    by_itself = gateway.client.sessions
    assert isinstance(refused(lambda: by_itself.close(others)), errors.AccessDenied)
    assert isinstance(refused(lambda: list(by_itself.list())), errors.AccessDenied)
    gateway.on_behalf(gateway.open(ADMIN)).sessions.close(others)


def test_what_a_gateway_does_for_an_operator_is_recorded_under_both_names_and_verbs_under_no_other(
    ca: RunningCa,
) -> None:
    gateway, identifier = Gateway(ca), new_request_id()
    opened = gateway.open(OPERATOR)
    audit = gateway.on_behalf(opened).audit
    audit.append_verb_record("array join", ca.identity(OPERATOR), request_id=identifier)
    assert isinstance(
        refused(lambda: audit.append_verb_record("array join", ca.identity(ADMIN))), errors.AuditRecordInvalid
    )
    assert isinstance(
        refused(lambda: gateway.client.audit.append_verb_record("array join", ca.identity(OPERATOR))),
        errors.AccessDenied,
    )
    gateway.on_behalf(opened).sessions.close(opened.session.name)

    def of_session(method: str) -> list[tuple[str, str]]:
        found = ca.client(AUDITOR).audit.list(method=method, newest_first=True)
        return [
            (one.record.caller, one.record.subject)
            for one in found
            if opened.session.name in [value for _, value in one.record.results]
        ]

    assert wait_for("its record", lambda: of_session("OpenSession")) == [(ca.identity(GATEWAY), "")]
    assert wait_for("its record", lambda: of_session("CloseSession")) == [(ca.identity(GATEWAY), ca.identity(OPERATOR))]
    [verb] = wait_for("its record", lambda: list(ca.client(AUDITOR).audit.list(id=identifier)))
    assert (verb.record.caller, verb.record.subject, verb.record.targets) == (
        ca.identity(GATEWAY),
        ca.identity(OPERATOR),
        (("verb", "array join"),),
    )


def test_the_feed_tells_services_of_closed_sessions(ca: RunningCa) -> None:
    opened = Gateway(ca).open()
    ca.client(ADMIN).sessions.close(opened.session.name)
    roots = x509.load_pem_x509_certificates(ca.context(ADMIN).bundle.read_bytes())
    known = KnownCallers(ca.settings.trust_domain, now=ca.clock.now)
    feed = ca.client("services/membership/one", worker=1).trust.watch_callers()
    for one in feed:
        known.apply(one, roots)
        if known.is_session_closed(opened.session.name.partition("/")[2]):
            break
    feed.close()


def test_an_altered_session_is_not_renewed(own_ca: RunningCa) -> None:
    gateway = Gateway(own_ca)
    opened = gateway.open()
    own_ca.write(
        lambda tx: tx._connection.execute(update(operator_sessions).values(ends_at=operator_sessions.c.ends_at + 9999))
    )
    assert isinstance(failure_of(gateway.on_behalf(opened)), errors.TrustTableAltered)
