"""Old records are deleted, their hashes remain, and the log of a whole CA still verifies."""

from sqlalchemy import select

from keyreeve.audit.log import Checkpoint, digest
from keyreeve.audit.verifying import Verifier, Witnessed
from keyreeve.audit.witness import Witness, accept
from keyreeve_ca.issuance.service import SignItem
from keyreeve_ca.store.audit_tables import audit
from keyreeve_chassis.audit.leader import Leader
from support.running_ca import AUDITOR, OPERATOR, RunningCa, server_csr
from support.waiting import wait_for

DAY = 86_400
SIGN = "SignCertificate"


def leaves(ca: RunningCa) -> set[tuple[bytes, int, bytes]]:
    query = select(audit.links.c.chain_id, audit.links.c.n, audit.links.c.leaves)
    return ca.read(lambda tx: {(bytes(row[0]), row[1], bytes(row[2])) for row in tx._connection.execute(query)})


def test_records_older_than_they_are_kept_go_and_the_log_verifies_as_before(own_ca: RunningCa) -> None:
    auditor = own_ca.client(AUDITOR).audit
    for n in range(5):
        own_ca.client(OPERATOR).certificates.sign("server", server_csr(f"web-{n}.example.test"))
    wait_for("all are on record", lambda: len(list(auditor.list(method=SIGN))) >= 5)
    first = auditor.checkpoint()
    seen = first.checkpoint
    before = leaves(own_ca)

    # By the clock of everybody else no certificate of that day would be good: only what needs none is done then.
    own_ca.clock.offset = (own_ca.settings.audit.kept_days + 1) * DAY
    own_ca.sign_in_process(SignItem("server", server_csr("late.example.test")))
    log = own_ca.coordinator.issuance.store.audit_log()
    signer = own_ca.run(log.signer(own_ca.coordinator.issuance.keystore))
    leader = Leader.of(log, signer, own_ca.clock.now, own_ca.settings)

    def horizon() -> int:
        return Checkpoint.decode(own_ca.run(log.signed()).body).horizon

    wait_for("a checkpoint of that day", lambda: horizon() > seen.time)
    own_ca.run(leader.purge())
    own_ca.clock.offset = 0

    witnessed = Witnessed(seen.k, digest(seen.encode()))
    report = auditor.verify(witnessed=[witnessed])
    assert report.problems == ()
    assert report.purged >= 5
    assert before <= leaves(own_ca), "every hash is still there"
    assert list(auditor.list(method=SIGN)) == [], "what is left is younger"
    offline = Verifier(auditor.checkpoint().spki, witnessed=[witnessed])
    for segment in auditor.segments():
        offline.add(segment)
    offline.finish()
    assert (offline.problems, offline.purged >= 5) == ([], True)
    accept(Witness(first.spki, first.body, first.signature), auditor.checkpoint(consistent_with=seen.k))

    own_ca.client(OPERATOR).certificates.sign("server", server_csr("again.example.test"))
    found = wait_for("the log goes on", lambda: list(auditor.list(method=SIGN)))
    assert len(found) == 1
