"""One admin who makes a second one alone, and acts as both."""

import hashlib
import uuid
from collections.abc import Iterator
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from keyreeve import errors
from keyreeve.keys import make_key
from keyreeve.values import CrlReason, OperatorRole
from keyreeve_ca import local_admin
from keyreeve_ca.settings import IssuanceSettings, OperatorSettings
from support.enrolling import OPEN_TO_TESTS, address_of, new_token
from support.running_ca import ADMIN, RunningCa, refused, running, unique
from support.waiting import wait_for

SECOND = "operators/admin/second"
WEEK = 7 * 86_400


@pytest.fixture(params=["sqlite", "postgresql"], scope="module")
def guarded_ca(request: pytest.FixtureRequest) -> Iterator[RunningCa]:
    """A CA as in production, with two admins who have been known for a week."""
    with running(
        request.param,
        request,
        workers=1,
        enroll=OPEN_TO_TESTS,
        issuance=IssuanceSettings(resume_needs_two=True),
        operators=OperatorSettings(two_persons=True),
    ) as ca:
        for path in (ADMIN, SECOND):
            ca.client(path)
            known_since(ca, path, WEEK)
        yield ca


def public_line() -> str:
    """A new SSH key."""
    key = Ed25519PrivateKey.generate().public_key()
    return key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def known_since(ca: RunningCa, path: str, seconds: int) -> None:
    """Make a record older."""
    name = path.rpartition("/")[2]

    def change(tx: object) -> None:
        person = tx.operators.find(name)  # type: ignore[attr-defined]
        tx.operators.update(replace(person, created_at=ca.clock.now() - seconds))  # type: ignore[attr-defined]
        tx.bump_config()  # type: ignore[attr-defined]

    ca.write(change)


def test_an_admin_lets_no_second_admin_in_alone(guarded_ca: RunningCa) -> None:
    admin, name = guarded_ca.client(ADMIN), unique("puppet")
    for attempt in (
        lambda: admin.operators.invite(name, OperatorRole.ADMIN, address=address_of(guarded_ca)),
        lambda: new_token(guarded_ca, f"operators/admin/{name}"),
        lambda: admin.operators.invite("second", OperatorRole.ADMIN, address=address_of(guarded_ca)),
    ):
        assert isinstance(refused(attempt), errors.SecondPersonRequired)
    admin.operators.approve(name, OperatorRole.ADMIN)
    alone = refused(lambda: admin.operators.invite(name, OperatorRole.ADMIN, address=address_of(guarded_ca)))
    assert isinstance(alone, errors.SecondPersonRequired)


def test_two_admins_let_a_third_one_in_and_remove_them_again(guarded_ca: RunningCa) -> None:
    first, second, name = guarded_ca.client(ADMIN), guarded_ca.client(SECOND), unique("third")
    first.operators.approve(name, OperatorRole.ADMIN)
    invited = second.operators.invite(name, OperatorRole.ADMIN, address=address_of(guarded_ca))
    assert invited.token
    assert invited.operator.invited_by == guarded_ca.identity(SECOND)
    again = refused(lambda: second.operators.invite(name, OperatorRole.ADMIN, address=address_of(guarded_ca)))
    assert isinstance(again, errors.SecondPersonRequired), "an approval is good for one change"
    assert isinstance(refused(lambda: first.operators.remove(name)), errors.SecondPersonRequired)
    second.operators.approve(name, None)
    assert first.operators.remove(name).removed_at is not None


def test_raising_a_role_takes_two_and_lowering_one_does_not(guarded_ca: RunningCa) -> None:
    first, second, name = guarded_ca.client(ADMIN), guarded_ca.client(SECOND), unique("aud")
    where = address_of(guarded_ca)
    first.operators.invite(name, OperatorRole.AUDITOR, address=where)
    for role in (OperatorRole.OPERATOR, OperatorRole.ADMIN):
        error = refused(lambda role=role: first.operators.update(name, role, address=where))
        assert isinstance(error, errors.SecondPersonRequired)
    second.operators.approve(name, OperatorRole.OPERATOR)
    assert first.operators.update(name, OperatorRole.OPERATOR, address=where).operator.role is OperatorRole.OPERATOR
    assert first.operators.update(name, OperatorRole.AUDITOR, address=where).operator.role is OperatorRole.AUDITOR


def test_setting_the_role_that_an_admin_has_gives_nobody_a_token(guarded_ca: RunningCa) -> None:
    admin = guarded_ca.client(ADMIN)
    for name in ("second", "ann"):
        request_id = str(uuid.uuid4())
        for _ in range(2):
            updated = admin.operators.update(
                name, OperatorRole.ADMIN, address=address_of(guarded_ca), request_id=request_id
            )
            assert (updated.token, updated.token_expires_at) == ("", None)
    identities = {guarded_ca.identity(path) for path in (ADMIN, SECOND)}
    assert not [one for one in admin.tokens.list() if one.identity in identities]


def test_an_admin_registers_no_ssh_key_of_their_own_for_another_admin(guarded_ca: RunningCa) -> None:
    first, second = guarded_ca.client(ADMIN), guarded_ca.client(SECOND)
    for attempt in (
        lambda: first.operators.update("second", keys=[public_line()]),
        lambda: first.operators.update("second", OperatorRole.ADMIN, keys=[public_line()]),
        lambda: first.operators.register_ssh_key("second", public_line()),
        lambda: first.operators.register_ssh_key("second", public_line(), certificate_authority=True),
    ):
        assert isinstance(refused(attempt), errors.SecondPersonRequired)
    second.operators.approve("second", OperatorRole.ADMIN)
    line = public_line()
    assert first.operators.register_ssh_key("second", line).key.public_key == line
    assert first.operators.update("second", keys=[]).operator.keys == (), "removing one takes nobody's approval"


@pytest.mark.parametrize("ended", ["removed", "lowered", "revoked"])
def test_an_approval_ends_with_its_giver(guarded_ca: RunningCa, ended: str) -> None:
    first, second = guarded_ca.client(ADMIN), guarded_ca.client(SECOND)
    path, name, where = f"operators/admin/{unique('former')}", unique("puppet"), address_of(guarded_ca)
    former, its_name = guarded_ca.client(path), path.rpartition("/")[2]
    known_since(guarded_ca, path, WEEK)
    key = hashlib.sha256(uuid.uuid4().bytes).digest()
    first.certificates.block_key(key, "lost")
    first.issuance.halt("for a test")
    former.operators.approve(name, OperatorRole.ADMIN)
    assert former.certificates.unblock_key(key).approver == guarded_ca.identity(path)
    assert former.issuance.resume("it is over").halted
    if ended == "revoked":
        [mine] = first.certificates.list(identity=guarded_ca.identity(path))
        first.certificates.revoke(mine.serial, CrlReason.KEY_COMPROMISE)
    else:
        second.operators.approve(its_name, OperatorRole.AUDITOR if ended == "lowered" else None)
        if ended == "lowered":
            first.operators.update(its_name, OperatorRole.AUDITOR, address=where)
        else:
            first.operators.remove(its_name)
    error = refused(lambda: second.operators.invite(name, OperatorRole.ADMIN, address=where))
    assert isinstance(error, errors.SecondPersonRequired)
    assert second.certificates.unblock_key(key).approver == guarded_ca.identity(SECOND)
    assert second.issuance.resume("it is over").halted
    assert not first.issuance.resume("it is over").halted


def test_an_approval_ends_after_an_hour(guarded_ca: RunningCa) -> None:
    first, second, name = guarded_ca.client(ADMIN), guarded_ca.client(SECOND), unique("late")
    first.operators.approve(name, OperatorRole.ADMIN)
    guarded_ca.clock.offset += 3700
    try:
        error = refused(lambda: second.operators.invite(name, OperatorRole.ADMIN, address=address_of(guarded_ca)))
        assert isinstance(error, errors.SecondPersonRequired)
    finally:
        guarded_ca.clock.offset -= 3700


def test_somebody_known_for_less_than_a_week_is_no_second_person(guarded_ca: RunningCa) -> None:
    new_admin = f"operators/admin/{unique('new')}"
    second, admin = guarded_ca.client(new_admin), guarded_ca.client(ADMIN)
    known_since(guarded_ca, new_admin, WEEK - 3600)
    assert isinstance(refused(lambda: second.operators.approve("eve", OperatorRole.ADMIN)), errors.SecondPersonRequired)
    admin.issuance.halt("for a test")
    admin.issuance.resume("it is over")
    assert isinstance(refused(lambda: second.issuance.resume("so it is")), errors.SecondPersonRequired)
    key = hashlib.sha256(uuid.uuid4().bytes).digest()
    admin.certificates.block_key(key, "lost")
    assert isinstance(refused(lambda: second.certificates.unblock_key(key)), errors.SecondPersonRequired)
    assert not guarded_ca.client(SECOND).issuance.resume("so it is").halted


def test_a_new_control_plane_resumes_over_the_local_socket_which_is_recorded(guarded_ca: RunningCa) -> None:
    admin, reason = guarded_ca.client(ADMIN), unique("a new installation")
    admin.issuance.halt("for a test")
    guarded_ca.run(local_admin.resume_issuance(guarded_ca.settings.coordinator_socket, reason))
    assert not admin.issuance.state().halted

    def recorded() -> bool:
        acts = admin.ca.audit.list(method="keyreeve/local-socket/resume_issuance")
        return any(("reason", reason) in (*act.record.targets, *act.record.results) for act in acts)

    wait_for("the audit log tells", recorded)


def test_the_first_admins_come_from_the_local_socket_and_the_audit_log_says_who_invited_whom(
    guarded_ca: RunningCa,
) -> None:
    from keyreeve.keys import make_csr

    name = unique("root-made")
    socket = guarded_ca.settings.coordinator_socket
    assert guarded_ca.run(local_admin.first_operator(socket, name, make_csr(make_key())))["identity"]
    admin = guarded_ca.client(ADMIN)
    assert admin.operators.get(name).invited_by.endswith("/services/ca/testing")
    invited = unique("aud")
    admin.operators.invite(invited, OperatorRole.AUDITOR, address=address_of(guarded_ca))

    def recorded() -> bool:
        wanted = {
            ("inviter", guarded_ca.identity(ADMIN)),
            ("invited", guarded_ca.identity(f"operators/auditor/{invited}")),
        }
        acts = admin.ca.audit.list(method="/keyreeve.ca.v1.OperatorService/InviteOperator")
        return any(wanted <= {*act.record.targets, *act.record.results} for act in acts)

    wait_for("the audit log tells", recorded)
