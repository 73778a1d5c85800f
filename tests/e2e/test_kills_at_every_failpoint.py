"""kill -9 at every failpoint that there is, on both databases: whatever dies when, everything begun is finished, and once.

A life begins on an empty database: both hierarchies are made, the first operator comes in, an enrollee enrolls and gets a
certificate, both of its certificates are revoked and listed, and checkpoints are signed. Each life kills the processes
where they pass a failpoint for the nth time, and starts them again. A failpoint that no life passes fails its test, so
a new one must be on this way or get a way of its own.

`make faults` kills at every passage of each failpoint; `make faults KILLS=1`, as CI runs it, at one.
"""

import os
import urllib.request
from dataclasses import dataclass, field

import pytest
from cryptography import x509
from sqlalchemy import inspect

from keyreeve import Client, Context
from keyreeve.enrollment import enroll
from keyreeve.errors import DeadlinePassed, Unauthenticated, Unavailable
from keyreeve.keys import load_certificates, make_csr, make_key
from keyreeve.request_ids import new_request_id
from keyreeve.token_values import TokenState
from keyreeve.values import CertificateState, CrlReason, Name
from keyreeve_ca import coordinator, worker
from keyreeve_chassis.processes import failpoints
from support.forked_ca import ForkedCa, NewCa, again_and_again, forking_program, new_forked_ca
from support.waiting import wait_for

__all__ = ["forking_program", "new_forked_ca"]

assert all((coordinator, worker)), "imported for the failpoints that they register"
FAILPOINTS = sorted(
    name for name in failpoints.registered() if not name.startswith(("test.", "credentials.", "membership."))
)
EVERY = "KEYREEVE_KILLS" in os.environ
PASSAGES = range(1, 100) if EVERY else (12, 1)
SINK = {"AUDIT__FILE": "{directory}/audit.jsonl", "AUDIT__SINK_REQUIRED": "true"}
"""So that workers ask their coordinator on PostgreSQL too."""
ENROLLEE = "spiffe://example.test/workloads/enrollee"
CALL_SECONDS = 10.0


@dataclass
class Life:
    """What one life does, and what it has seen."""

    ca: ForkedCa
    numbers: dict[str, list[int]] = field(default_factory=dict)
    """CRL numbers by address, in the order in which they were read."""
    roots: set[bytes] = field(default_factory=set)
    keks: set[bytes] = field(default_factory=set)

    def live(self) -> None:
        """All of it."""
        admin = again_and_again("the first operator has a certificate", self.ca.admit)
        self.roots |= set(load_certificates(admin.bundle)) | set(load_certificates(admin.estate_bundle))
        with Client(admin, timeout=CALL_SECONDS) as client:
            enrollee = self._enroll(client)
            with Client(enrollee, timeout=CALL_SECONDS) as theirs:
                csr, request_id = make_csr(make_key(), [Name.dns("web.example.test")]), new_request_id()
                signed = again_and_again(
                    "a certificate is signed",
                    lambda: theirs.certificates.sign("server", csr, request_id=request_id),
                )
                own = f"{x509.load_pem_x509_certificates(enrollee.certificate.read_bytes())[0].serial_number:032x}"
                for serial in (signed.serial, own):
                    self._revoke(client, serial)
                self._is_refused(theirs)
            leaf = x509.load_der_x509_certificate(signed.certificate_der)
            [point] = leaf.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
            assert point.full_name is not None
            address = str(point.full_name[0].value)
            wait_for("the certificate is listed", lambda: leaf.serial_number in self._list(address))
            self._is_on_record(client, own)
            found = again_and_again(
                "the enrollee's certificates", lambda: list(client.certificates.list(identity=ENROLLEE))
            )
            assert [(one.serial, one.state) for one in found] == [(own, CertificateState.REVOKED)]
            [token] = again_and_again("the token", lambda: list(client.tokens.list()))
            assert token.state in {TokenState.BOUND, TokenState.CLOSED}

    def _enroll(self, admin: Client) -> Context:
        request_id, directory = new_request_id(), self.ca.directory / "enrollee"
        token = again_and_again(
            "a token is made",
            lambda: admin.tokens.create(ENROLLEE, address=self.ca.enroll_address, request_id=request_id),
        )
        return again_and_again("the enrollee is enrolled", lambda: enroll(token.text, directory, timeout=CALL_SECONDS))

    def _revoke(self, admin: Client, serial: str) -> None:
        request_id = new_request_id()
        told = again_and_again(
            "a certificate is revoked",
            lambda: admin.certificates.revoke(serial, CrlReason.SUPERSEDED, request_id=request_id),
        )
        assert told.state is CertificateState.REVOKED

    def _is_refused(self, revoked: Client) -> None:
        def refused() -> bool:
            try:
                revoked.profiles.get("server")
            except (Unavailable, DeadlinePassed):
                return False
            except Unauthenticated:
                return True
            return False

        wait_for("its holder is refused", refused)

    def _list(self, address: str) -> set[int]:
        try:
            with urllib.request.urlopen(address, timeout=5) as answer:
                found = x509.load_der_x509_crl(answer.read())
        except OSError:
            return set()
        number = found.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
        self.numbers.setdefault(address, []).append(number)
        return {one.serial_number for one in found}

    def _is_on_record(self, admin: Client, serial: str) -> None:
        """A checkpoint has the last revocation, and everything that it and all before it say is so."""
        wait_for(
            "a checkpoint",
            lambda: again_and_again(
                "the log is read",
                lambda: list(
                    admin.audit.list(method="RevokeCertificate", resource=f"certificates/{serial}", code="OK")
                ),
            ),
        )
        report = again_and_again("the log is verified", admin.audit.verify)
        assert report.problems == ()

    # --- Invariants of the database after any kill ---------------------------------------------------------------------

    def check_halves(self) -> None:
        """All authorities or none, and numbers that only rise."""
        self.keks |= {file.read_bytes() for file in (self.ca.state / "kek",) if file.exists()}
        assert len(self.keks) <= 1
        if self.ca.engine.dialect.name == "sqlite" and not (self.ca.state / "ca.db").exists():
            return
        if not inspect(self.ca.engine).has_table("audit_signers"):
            return  # killed before there was anything
        authorities = self.ca.rows("SELECT authority_id, certificate_der, state FROM authorities ORDER BY authority_id")
        control_plane = self.ca.rows("SELECT restore_generation, bootstrapped_at FROM control_plane")
        assert len(control_plane) <= 1
        complete = bool(control_plane and control_plane[0][1])
        assert [one[0] for one in authorities] == (
            ["control-issuing-1", "control-root-1", "estate-issuing-1", "estate-root-1"] if complete else []
        )
        roots = {bytes(one[1]) for one in authorities if "-root-" in one[0]}
        assert not self.roots or roots == self.roots
        self.roots |= roots
        for number, published in self.ca.rows("SELECT number, published FROM revocation_lists"):
            assert published <= number
        for shard, number in self.ca.rows("SELECT authority_id, published FROM revocation_lists WHERE crl_shard = 0"):
            seen = self.numbers.setdefault(f"stored {shard}", [])
            seen.append(number)
        checkpoints = [one[0] for one in self.ca.rows("SELECT k FROM audit_checkpoints ORDER BY k")]
        assert checkpoints == list(range(1, len(checkpoints) + 1))

    def check_end(self) -> None:
        """One hierarchy, one of each certificate, each revoked once; nothing went back."""
        self.check_halves()
        assert len(self.roots) == 2
        bound = self.ca.rows("SELECT serial, state FROM enrollment_tokens")
        revoked = self.ca.rows("SELECT serial, seq FROM revocations ORDER BY seq")
        assert bytes(bound[0][0]) in {bytes(one[0]) for one in revoked}
        assert len(revoked) == 2
        [(last,)] = self.ca.rows("SELECT last_seq FROM revocation_head")
        phantoms = self.ca.rows("SELECT seq FROM phantom_blocks")
        # Changes of operators, authorities and sessions take numbers of the same sequence.
        numbers = [one[1] for one in revoked] + [one[0] for one in phantoms]
        assert len(set(numbers)) == len(numbers)
        assert max(numbers) <= last
        for seen in self.numbers.values():
            assert seen == sorted(seen)
        assert self.ca.rows("SELECT count(*) FROM audit_signers") == [(1,)]


@pytest.mark.faults
@pytest.mark.thorough
@pytest.mark.timeout(120 + 30 * len(PASSAGES))
@pytest.mark.parametrize("failpoint", FAILPOINTS)
def test_whatever_dies_there_what_was_begun_is_finished_and_once(failpoint: str, new_forked_ca: NewCa) -> None:
    kills = 0
    for passage in PASSAGES:
        with new_forked_ca(**SINK) as ca:
            lived = Life(ca)
            ca.on_death = lived.check_halves
            ca.serve(f"{failpoint}=crash@{passage}")
            with ca.nursed():
                lived.live()
            ca.stop()
            lived.check_end()
        kills += len(ca.killed)
        if bool(ca.killed) != EVERY:
            break  # the short form is content with one, the long one has been at every passage
    assert kills, f"nothing passes {failpoint}: lead the way through it"
