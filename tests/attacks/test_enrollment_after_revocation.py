"""A token, or the person who made it, is put out between the challenge and the certificate."""

import hashlib
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from keyreeve import Client, errors
from keyreeve.enrollment_token import EnrollmentToken
from keyreeve.identity import Caller, Role
from keyreeve.keys import PrivateKey, make_csr, make_key, save_key
from keyreeve.values import CrlReason, Name, NameType, OperatorRole, to_pem
from keyreeve_ca.enrollment.ports import TokenState
from keyreeve_ca.enrollment.service import METHOD
from keyreeve_ca.issuance.service import SignItem, SignRequest
from keyreeve_ca.ledger.ports import Rpc
from keyreeve_ca.requests.csr import read_csr
from keyreeve_ca.store.ports import CertificateFilter
from support.enrolling import address_of, conversation, enrolling_ca, new_token
from support.running_ca import RunningCa, refused, unique
from support.waiting import wait_for

__all__ = ["enrolling_ca"]


@dataclass(frozen=True)
class Case:
    """A token made by an admin of its own, and the key that came with it."""

    ca: RunningCa
    maker: str
    token: EnrollmentToken
    key: PrivateKey

    @property
    def name(self) -> str:
        return self.maker.rpartition("/")[2]

    def bind(self) -> None:
        """Bind the token to the key, as a call does that is cut off after its proof."""
        spki = read_csr(make_csr(self.key)).spki_sha256
        assert self.ca.write(lambda tx: tx.tokens.bind(self.token.token_id, spki, self.ca.clock.now()))

    def certificates(self) -> int:
        mine = CertificateFilter(identity=str(self.token.identity))
        return len(self.ca.read(lambda tx: tx.certificates(mine, after=b"", limit=10)))

    def state(self) -> str:
        stored = self.ca.read(lambda tx: tx.tokens.get(self.token.token_id))
        return str(stored.state)


@pytest.fixture
def case(enrolling_ca: RunningCa) -> Case:
    maker = f"operators/admin/{unique('mallory')}"
    return Case(enrolling_ca, maker, new_token(enrolling_ca, by=maker), make_key())


def revoke_token(case: Case) -> None:
    case.ca.client().tokens.revoke(case.token.token_id.hex())


def remove_maker(case: Case) -> None:
    case.ca.client().operators.remove(case.name)


def lower_maker(case: Case) -> None:
    case.ca.client().operators.update(case.name, OperatorRole.AUDITOR, address=address_of(case.ca))


def revoke_makers_certificate(case: Case) -> None:
    mine = CertificateFilter(identity=case.ca.identity(case.maker))
    [certificate] = case.ca.read(lambda tx: tx.certificates(mine, after=b"", limit=10))
    case.ca.client().certificates.revoke(certificate.serial.hex(), CrlReason.PRIVILEGE_WITHDRAWN)


ENDS = [revoke_token, remove_maker, lower_maker, revoke_makers_certificate]


@pytest.mark.parametrize("bound", [False, True], ids=["open", "bound"])
@pytest.mark.parametrize("end", ENDS)
def test_a_token_that_ended_between_challenge_and_proof_yields_no_certificate(
    case: Case, end: Callable[[Case], None], bound: bool
) -> None:
    if bound:
        case.bind()
    with conversation(case.token, key=case.key) as talk:
        talk.hello()
        talk.challenge()
        end(case)
        talk.proof()
        assert type(refused(talk.result)) is errors.TokenRevoked
    assert case.state() == TokenState.REVOKED
    assert case.certificates() == 0


@pytest.mark.parametrize("end", ENDS)
def test_the_commit_refuses_a_certificate_whose_token_ended_while_it_was_signed(
    case: Case, end: Callable[[Case], None]
) -> None:
    case.bind()
    end(case)
    outcome = sign_with_token(case)
    assert type(outcome) is errors.TokenRevoked
    assert case.certificates() == 0


def test_the_commit_refuses_a_certificate_for_another_key_than_the_tokens(case: Case) -> None:
    case.bind()
    outcome = sign_with_token(case, key=make_key())
    assert type(outcome) is errors.TokenUsed
    assert case.certificates() == 0


def test_a_name_that_is_invited_again_inherits_no_late_certificate(enrolling_ca: RunningCa) -> None:
    ca, name = enrolling_ca, unique("zed")
    admin = ca.client()
    admin.operators.invite(name, OperatorRole.ADMIN, address=address_of(ca))
    first = make_key()
    early = late_certificate(ca, name, first)
    admin.operators.remove(name)
    late = late_certificate(ca, name, first)
    admin.operators.invite(name, OperatorRole.ADMIN, address=address_of(ca))
    for client in (early, late):
        wait_until_out(client)


def test_a_role_that_is_given_back_revives_no_certificate_of_the_first_time(enrolling_ca: RunningCa) -> None:
    ca, name = enrolling_ca, unique("zoe")
    admin = ca.client()
    admin.operators.invite(name, OperatorRole.ADMIN, address=address_of(ca))
    admin.operators.update(name, OperatorRole.AUDITOR, address=address_of(ca))
    late = late_certificate(ca, name, make_key())
    admin.operators.update(name, OperatorRole.ADMIN, address=address_of(ca))
    wait_until_out(late)


def wait_until_out(client: Client) -> None:
    """Wait until every worker that a connection may lead to has heard of it."""

    def is_out() -> bool:
        try:
            list(client.operators.list())
        except (errors.PeerCertificateRevoked, errors.PeerOperatorUnknown):
            return True
        return False

    wait_for("the certificate is refused", is_out, 5.0)


def sign_with_token(case: Case, key: PrivateKey | None = None) -> object:
    """Issue as `Enroll` does after its checks, over the coordinator's signing path."""
    csr = make_csr(key or case.key)
    identity = str(case.token.identity)
    request = SignRequest(
        Caller(case.ca.spiffe_id(case.maker), Role.CA, serial=0),
        Rpc(METHOD, case.token.token_id),
        str(uuid.uuid4()),
        hashlib.sha256(csr).digest(),
        (SignItem("member", csr, (Name(NameType.URI, identity),)),),
    )
    [outcome] = case.ca.run(case.ca.coordinator.issuance.sign(request))
    return outcome


def late_certificate(ca: RunningCa, name: str, key: PrivateKey) -> Client:
    """A certificate for an admin's name that enters the ledger whatever the record says, and a client with it."""
    identity = Name(NameType.URI, ca.identity(f"operators/admin/{name}"))
    entry = ca.sign_in_process(SignItem("operator", make_csr(key), (identity,)))
    assert not isinstance(entry, errors.KeyreeveError)
    directory = ca.directory / unique("late")
    directory.mkdir()
    context = ca.context("operators/auditor/ada")
    issuer = ca.coordinator.issuance.snapshot().authorities[entry.authority_id]
    save_key(directory / "key.pem", key)
    (directory / "certificate.pem").write_text(to_pem([entry.der, issuer.certificate_der]))
    return Client(replace(context, certificate=directory / "certificate.pem", key=directory / "key.pem"))
