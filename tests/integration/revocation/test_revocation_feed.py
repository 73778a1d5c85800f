"""WatchRevocations as another service follows it."""

from cryptography import x509

from keyreeve.keys import make_key
from keyreeve.revocation_feed import RevokedCallers
from keyreeve.values import CrlReason
from support.running_ca import MEMBERSHIP, RunningCa, server_csr, unique


def test_a_service_learns_of_a_revoked_caller_and_of_nothing_else(ca: RunningCa) -> None:
    watching = ca.new_client(MEMBERSHIP, worker=1)
    roots = x509.load_pem_x509_certificates(watching.context.bundle.read_bytes())
    callers = RevokedCallers(ca.settings.trust_domain)
    updates = watching.certificates.watch_revocations()
    member = ca.issue(f"members/{unique('web')}.example.test", make_key()).serial
    estate = ca.client().certificates.sign("server", server_csr(f"{unique('web')}.example.test")).serial
    callers.apply(next(updates), roots)
    assert callers.age() < 5
    ca.client().certificates.revoke(member.hex(), CrlReason.SUPERSEDED)
    ca.client().certificates.revoke(estate, CrlReason.SUPERSEDED)
    beats = 0
    while not (callers.is_revoked(int.from_bytes(member)) and beats >= 2):
        update = next(updates)
        callers.apply(update, roots)
        beats = beats + 1 if not update.revoked else 0
    assert not callers.is_revoked(int(estate, 16))
    again = watching.certificates.watch_revocations(callers.restore_generation, callers.seq)
    first = next(again)
    assert (first.after_seq, first.revoked) == (callers.seq, ())
    updates.close()
    again.close()
