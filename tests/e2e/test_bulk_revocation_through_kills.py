"""kill -9 of a coordinator during a bulk revocation, on both databases: it resumes and revokes nothing twice."""

import pytest

from keyreeve import Client, SignItem
from keyreeve.errors import KeyreeveError
from keyreeve.keys import make_csr, make_key
from keyreeve.operation_values import OperationState
from keyreeve.request_ids import new_request_id
from keyreeve.values import CertificateState, CrlReason, Name
from support.forked_ca import NewCa, Process, again_and_again, forking_program, new_forked_ca
from support.waiting import wait_for

__all__ = ["forking_program", "new_forked_ca"]

BATCHES, BATCH = 8, 100
TOTAL = BATCHES * BATCH
SECONDS = 10.0


def sign(client: Client, profile: str, count: int) -> set[str]:
    items = [SignItem(profile, make_csr(make_key(), [Name.dns("web.example.test")]))] * count
    outcomes = client.certificates.sign_many(items)
    return {one.serial for one in outcomes if not isinstance(one, KeyreeveError)}


@pytest.mark.faults
@pytest.mark.thorough
@pytest.mark.timeout(300)
@pytest.mark.parametrize("point", ["before", "after"])
def test_a_bulk_revocation_that_is_killed_again_and_again_loses_nothing_and_does_nothing_twice(
    point: str, new_forked_ca: NewCa
) -> None:
    with new_forked_ca() as ca:
        ca.serve()
        with Client(again_and_again("the first operator has a certificate", ca.admit), timeout=SECONDS) as admin:
            unlucky = set().union(*(sign(admin, "server", BATCH) for _ in range(BATCHES)))
            spared = sign(admin, "client", 3)
            assert (len(unlucky), len(spared)) == (TOTAL, 3)
            seen: list[tuple[int, int]] = []

            def look() -> None:
                [(done, revoked)] = ca.rows(
                    "SELECT coalesce((SELECT done FROM operations), 0), (SELECT count(*) FROM revocations)"
                )
                seen.append((done, revoked))

            def armed_again(ended: Process) -> str:
                # Each lives a little longer than the one before it, so that the work ends whatever a start commits.
                return f"ca.commit.{point}=crash@{10 + len(ca.killed)}" if ended.role == "coordinator" else ""

            ca.on_death, ca.armed_again = look, armed_again
            ca.replace("coordinator", f"ca.commit.{point}=crash@10")
            request_id = new_request_id()
            with ca.nursed():
                operation = again_and_again(
                    "it is begun",
                    lambda: admin.certificates.revoke_many(
                        CrlReason.KEY_COMPROMISE, profile="server", request_id=request_id
                    ),
                )
                ended = wait_for(
                    "it ends",
                    lambda: (
                        now
                        if (
                            now := again_and_again("it is looked at", lambda: admin.operations.get(operation.name))
                        ).state
                        is not OperationState.RUNNING
                        else None
                    ),
                    150,
                )
                assert (ended.state, ended.done, ended.total) == (OperationState.SUCCEEDED, TOTAL, TOTAL)
                kept = again_and_again("the ledger is read", lambda: list(admin.certificates.list(profile="client")))
                assert {one.serial for one in kept if one.state is CertificateState.VALID} >= spared
            rows = ca.rows("SELECT serial, seq FROM revocations")
            assert {bytes(serial).hex() for serial, _ in rows} == unlucky
            assert len({seq for _, seq in rows}) == len(rows) == TOTAL
            assert [done for done, _ in seen] == sorted(done for done, _ in seen)
            assert all(done == revoked for done, revoked in seen), "what is done and how far it has come are one commit"
            in_the_middle = [done for done, _ in seen if 0 < done < TOTAL]
            assert len(set(in_the_middle)) >= 2, f"killed at {seen}"
            ca.armed_again = lambda _: ""
            ca.stop()
