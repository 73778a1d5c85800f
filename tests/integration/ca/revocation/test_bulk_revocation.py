"""RevokeCertificates: exactly the matching certificates, in steps that survive restarts and can be canceled."""

import uuid
from datetime import UTC, datetime, timedelta

import pytest

from keyreeve import errors
from keyreeve.operation_values import OperationState
from keyreeve.values import CertificateState, CrlReason, SignItem
from keyreeve_ca.revocation import bulk as bulk_revocation
from support.running_ca import AUDITOR, MEMBERSHIP, OPERATOR, RunningCa, refused, server_csr, unique
from support.waiting import wait_for

SUPERSEDED = CrlReason.SUPERSEDED


def workload() -> str:
    return f"workloads/{unique('billing')}/api"


def sign_many(ca: RunningCa, path: str, count: int) -> list[str]:
    """Issue certificates and return their serial numbers."""
    items = [SignItem("server", server_csr(f"{unique('web')}.example.test")) for _ in range(count)]
    found = []
    for at in range(0, count, 100):
        for one in ca.client(path).certificates.sign_many(items[at : at + 100]):
            assert not isinstance(one, errors.KeyreeveError)
            found.append(one.serial)
    return sorted(found)


def states(ca: RunningCa, path: str) -> dict[str, CertificateState]:
    return {one.serial: one.state for one in ca.client(path).certificates.list()}


def test_everything_that_fits_is_revoked_and_nothing_else(ca: RunningCa, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk_revocation, "STEP", 20)
    path, other = workload(), workload()
    serials, kept = sign_many(ca, path, 50), sign_many(ca, other, 2)
    before = ca.client().certificates.revoke(serials[0], CrlReason.AFFILIATION_CHANGED)
    operation = ca.client().certificates.revoke_many(SUPERSEDED, requester=ca.identity(path))
    assert (operation.state, operation.creator) == (OperationState.RUNNING, ca.identity("operators/admin/ann"))
    *_, last = ca.client().operations.watch(operation.name)
    assert (last.state, last.done, last.total) == (OperationState.SUCCEEDED, 49, 49)
    assert set(states(ca, path).values()) == {CertificateState.REVOKED}
    assert set(states(ca, other).values()) == {CertificateState.VALID}
    assert sorted(states(ca, other)) == kept
    assert ca.client().certificates.get(serials[0]) == before, "the first reason stays"


def test_conditions_must_all_hold(ca: RunningCa) -> None:
    path = workload()
    [serial] = sign_many(ca, path, 1)
    certificates, hour = ca.client().certificates, timedelta(hours=1)
    for conditions in (
        {"profile": "client"},
        {"authority": "control-issuing-1"},
        {"identity": "other.example.test"},
        {"issued_from": datetime.now(UTC) + hour},
        {"issued_before": datetime.now(UTC) - hour},
    ):
        operation = certificates.revoke_many(SUPERSEDED, requester=ca.identity(path), **conditions)
        *_, last = ca.client().operations.watch(operation.name)
        assert (last.state, last.done) == (OperationState.SUCCEEDED, 0), conditions
    operation = certificates.revoke_many(
        SUPERSEDED, requester=ca.identity(path), profile="server", issued_from=datetime.now(UTC) - hour
    )
    *_, last = ca.client().operations.watch(operation.name)
    assert last.done == 1
    assert certificates.get(serial).state is CertificateState.REVOKED


def test_a_predicate_without_a_condition_or_of_nothing_known_is_refused(ca: RunningCa) -> None:
    certificates = ca.client().certificates
    assert isinstance(refused(lambda: certificates.revoke_many(SUPERSEDED)), errors.FieldInvalid)
    assert isinstance(
        refused(lambda: certificates.revoke_many(SUPERSEDED, authority="nobody")), errors.AuthorityNotFound
    )
    assert isinstance(refused(lambda: certificates.revoke_many(SUPERSEDED, profile="nothing")), errors.ProfileNotFound)


def test_only_admins_begin_and_membership_for_stand_alone_authorities_alone(ca: RunningCa) -> None:
    for path in (OPERATOR, AUDITOR, workload(), MEMBERSHIP):
        told = refused(lambda: ca.client(path).certificates.revoke_many(SUPERSEDED, authority="estate-issuing-1"))  # noqa: B023
        assert isinstance(told, errors.AccessDenied), path


def test_the_same_request_begins_one_operation(ca: RunningCa) -> None:
    request_id, path = str(uuid.uuid4()), ca.identity(workload())
    names = {
        ca.client().certificates.revoke_many(SUPERSEDED, requester=path, request_id=request_id).name for _ in range(2)
    }
    assert len(names) == 1


def test_an_operation_is_seen_by_operators_and_cancelled_by_admins_alone(ca: RunningCa) -> None:
    operation = ca.client().certificates.revoke_many(SUPERSEDED, requester=ca.identity(workload()))
    for path in (OPERATOR, AUDITOR):
        assert ca.client(path).operations.get(operation.name).name == operation.name
        assert operation.name in {one.name for one in ca.client(path).operations.list()}
    other = ca.client(workload()).operations
    assert isinstance(refused(lambda: other.get(operation.name)), errors.OperationNotFound)
    assert list(other.list()) == []
    told = refused(lambda: ca.client(OPERATOR).operations.cancel(operation.name))
    assert isinstance(told, errors.OperationNotFound)
    *_, _ = ca.client().operations.watch(operation.name)
    assert ca.client().operations.cancel(operation.name).state is OperationState.SUCCEEDED, "it had ended"


def test_it_goes_on_where_it_stopped_after_a_restart(own_ca: RunningCa, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk_revocation, "STEP", 5)
    monkeypatch.setattr(bulk_revocation, "_SHARE", 10.0)
    path = workload()
    serials = sign_many(own_ca, path, 60)
    operation = own_ca.client().certificates.revoke_many(SUPERSEDED, requester=own_ca.identity(path))
    name = operation.name.removeprefix("operations/")

    def done() -> int:
        found = own_ca.read(lambda tx: tx.operations.get(name))
        return found.done if found else 0

    wait_for("some of it", lambda: done() >= 5)
    own_ca.stop()
    own_ca.start()

    def ended() -> bool:
        found = own_ca.read(lambda tx: tx.operations.get(name))
        return found is not None and found.state.value == "succeeded" and found.done == 60

    wait_for("the rest", ended)
    revoked = own_ca.read(lambda tx: tx.revocations.of([bytes.fromhex(one) for one in serials]))
    assert len({one.seq for one in revoked.values()}) == 60


def test_what_is_cancelled_ends_and_what_it_did_stays(own_ca: RunningCa, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk_revocation, "STEP", 1)
    monkeypatch.setattr(bulk_revocation, "_SHARE", 20.0)
    path = workload()
    sign_many(own_ca, path, 100)
    client = own_ca.client()
    operation = client.certificates.revoke_many(SUPERSEDED, requester=own_ca.identity(path))
    wait_for("some of it", lambda: client.operations.get(operation.name).done)
    client.operations.cancel(operation.name)
    *_, last = client.operations.watch(operation.name)
    assert last.state is OperationState.CANCELLED
    assert 0 < last.done < 100
    found = list(states(own_ca, path).values())
    assert found.count(CertificateState.REVOKED) == last.done
