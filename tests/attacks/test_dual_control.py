"""One admin who makes a second one alone, and acts as both."""

import hashlib
import uuid
from collections.abc import Iterator
from dataclasses import replace

import pytest

from keyreeve import errors
from keyreeve.keys import make_key
from keyreeve.values import OperatorRole
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
