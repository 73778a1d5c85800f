"""kill -9 at every failpoint that there is, on both databases: whatever dies when, everything begun is finished, and once.

A life begins on an empty database: both trees are made, the first operator comes in, a newcomer enrols and gets a
certificate, both of its certificates are revoked and listed, and checkpoints are signed. Each life kills the processes
where they pass a failpoint for the nth time, and starts them again. A failpoint that no life passes fails its test, so
a new one must be on this way or get a way of its own.

`make faults` kills at every passage of each failpoint; `make faults KILLS=1`, as CI runs it, at one.
"""

import asyncio
import os
import shutil
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import Popen
from typing import TypeVar

import pytest
from cryptography import x509
from sqlalchemy import Engine, inspect, text

from keyreeve import Client, Context
from keyreeve.enrolment import enrol
from keyreeve.errors import DeadlinePassed, Unauthenticated, Unavailable
from keyreeve.keys import load_certificates, make_csr, make_key, save_key
from keyreeve.request_ids import new_request_id
from keyreeve.token_values import TokenState
from keyreeve.values import CertificateState, Name, RevocationReason
from keyreeve_ca import keeper, tools, worker
from keyreeve_ca.storage.tables import SCHEMA
from keyreeve_chassis import failpoints
from keyreeve_chassis.database.engine import postgresql, sqlite_reader
from support.databases import fresh_postgresql_database
from support.forked_ca import ForkedCa, forking, settings_of
from support.postgres import Server
from support.waiting import wait_for

T = TypeVar("T")

assert all((keeper, worker)), "imported for the failpoints that they register"
FAILPOINTS = sorted(name for name in failpoints.registered() if not name.startswith("test."))
EVERY = "KEYREEVE_KILLS" in os.environ
PASSAGES = range(1, 100) if EVERY else (12, 1)
ADMIN = "spiffe://example.test/operators/admin/ann"
NEWCOMER = "spiffe://example.test/workloads/newcomer"
CALL_SECONDS = 10.0


@dataclass
class Life:
    """What one life does, and what it has seen."""

    ca: ForkedCa
    engine: Engine
    numbers: dict[str, list[int]] = field(default_factory=dict)
    """CRL numbers by address, in the order in which they were read."""
    roots: set[bytes] = field(default_factory=set)
    keks: set[bytes] = field(default_factory=set)

    def again_and_again(self, what: str, act: Callable[[], T]) -> T:
        """Try until a service that may be away has done it, as a careful client does."""

        def attempt() -> list[T]:
            try:
                return [act()]
            except (Unavailable, DeadlinePassed):
                return []

        return wait_for(what, attempt)[0]

    def live(self) -> None:
        """All of it."""
        admin = self.again_and_again("the first operator is let in", self._admit)
        with Client(admin, timeout=CALL_SECONDS) as client:
            newcomer = self._enrol(client)
            with Client(newcomer, timeout=CALL_SECONDS) as theirs:
                csr, request_id = make_csr(make_key(), [Name.dns("web.example.test")]), new_request_id()
                signed = self.again_and_again(
                    "a certificate is signed",
                    lambda: theirs.certificates.sign("server", csr, request_id=request_id),
                )
                own = f"{x509.load_pem_x509_certificates(newcomer.certificate.read_bytes())[0].serial_number:032x}"
                for serial in (signed.serial, own):
                    self._revoke(client, serial)
                self._is_refused(theirs)
            leaf = x509.load_der_x509_certificate(signed.certificate_der)
            [point] = leaf.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
            assert point.full_name is not None
            address = str(point.full_name[0].value)
            wait_for("the certificate is listed", lambda: leaf.serial_number in self._list(address))
            self._is_on_record(client, own)
            found = self.again_and_again(
                "the newcomer's certificates", lambda: list(client.certificates.list(identity=NEWCOMER))
            )
            assert [(one.serial, one.state) for one in found] == [(own, CertificateState.REVOKED)]
            [token] = self.again_and_again("the token", lambda: list(client.tokens.list()))
            assert token.state in {TokenState.BOUND, TokenState.CLOSED}

    def _admit(self) -> Context:
        key = make_key()
        told = asyncio.run(tools.first_operator(self.ca.state / "run" / "keeper.sock", "ann", make_csr(key)))
        directory = Path(tempfile.mkdtemp(dir=self.ca.directory))
        context = Context(
            trust_domain="example.test",
            endpoints={"ca": self.ca.address},
            bundle=directory / "bundle.pem",
            estate_bundle=directory / "estate-bundle.pem",
            certificate=directory / "certificate.pem",
            key=directory / "key.pem",
        )
        save_key(context.key, key)
        context.certificate.write_text(told["certificate_pem"] + told["chain_pem"])
        context.bundle.write_text(told["control_bundle_pem"])
        context.estate_bundle.write_text(told["estate_bundle_pem"])
        self.roots |= set(load_certificates(context.bundle)) | set(load_certificates(context.estate_bundle))
        return context

    def _enrol(self, admin: Client) -> Context:
        request_id, directory = new_request_id(), self.ca.directory / "newcomer"
        token = self.again_and_again(
            "a token is made",
            lambda: admin.tokens.create(NEWCOMER, address=self.ca.enrol_address, request_id=request_id),
        )
        return self.again_and_again(
            "the newcomer is let in", lambda: enrol(token.text, directory, timeout=CALL_SECONDS)
        )

    def _revoke(self, admin: Client, serial: str) -> None:
        request_id = new_request_id()
        told = self.again_and_again(
            "a certificate is revoked",
            lambda: admin.certificates.revoke(serial, RevocationReason.SUPERSEDED, request_id=request_id),
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
            lambda: self.again_and_again(
                "the log is read",
                lambda: list(
                    admin.audit.list(method="RevokeCertificate", resource=f"certificates/{serial}", code="OK")
                ),
            ),
        )
        report = self.again_and_again("the log is verified", admin.audit.verify)
        assert report.problems == ()

    # --- What must be true of the database, whoever has just died ------------------------------------------------------

    def check_halves(self) -> None:
        """All authorities or none, and numbers that only rise."""
        self.keks |= {file.read_bytes() for file in (self.ca.state / "kek",) if file.exists()}
        assert len(self.keks) <= 1
        if self.engine.dialect.name == "sqlite" and not (self.ca.state / "ca.db").exists():
            return
        if not inspect(self.engine).has_table("audit_signers"):
            return  # killed before there was anything
        authorities = self._rows("SELECT authority_id, certificate_der, state FROM authorities ORDER BY authority_id")
        plane = self._rows("SELECT incarnation, bootstrapped_at FROM plane")
        assert len(plane) <= 1
        complete = bool(plane and plane[0][1])
        assert [one[0] for one in authorities] == (
            ["control-issuing-1", "control-root-1", "estate-issuing-1", "estate-root-1"] if complete else []
        )
        roots = {bytes(one[1]) for one in authorities if "-root-" in one[0]}
        assert not self.roots or roots == self.roots
        self.roots |= roots
        for number, published in self._rows("SELECT number, published FROM revocation_lists"):
            assert published <= number
        for shard, number in self._rows("SELECT authority_id, published FROM revocation_lists WHERE crl_shard = 0"):
            seen = self.numbers.setdefault(f"stored {shard}", [])
            seen.append(number)
        checkpoints = [one[0] for one in self._rows("SELECT k FROM audit_checkpoints ORDER BY k")]
        assert checkpoints == list(range(1, len(checkpoints) + 1))

    def check_end(self) -> None:
        """One hierarchy, one of each certificate, each revoked once; nothing went back."""
        self.check_halves()
        assert len(self.roots) == 2
        bound = self._rows("SELECT serial, state FROM enrolment_tokens")
        revoked = self._rows("SELECT serial, seq FROM revocations ORDER BY seq")
        assert bytes(bound[0][0]) in {bytes(one[0]) for one in revoked}
        assert len(revoked) == 2
        [(last,)] = self._rows("SELECT last_seq FROM revocation_head")
        phantoms = self._rows("SELECT seq FROM phantom_blocks")
        assert sorted([one[1] for one in revoked] + [one[0] for one in phantoms]) == list(range(1, last + 1))
        for seen in self.numbers.values():
            assert seen == sorted(seen)
        assert self._rows("SELECT count(*) FROM audit_signers") == [(1,)]

    def _rows(self, statement: str) -> list[tuple]:
        with self.engine.connect() as connection:
            return [tuple(row) for row in connection.execute(text(statement))]


@contextmanager
def life(program: "Popen[str]", url: str | None) -> Iterator[Life]:
    """A life that has not begun, on an empty database. Its directory's path is short enough for a socket."""
    directory = Path(tempfile.mkdtemp(prefix="kr-"))
    sink = {"AUDIT__FILE": str(directory / "audit.jsonl"), "AUDIT__SINK_REQUIRED": "true"}
    settings, ports = settings_of(directory, url, **sink)
    ca = ForkedCa(program, directory, settings, ports)
    if url is None:
        engine = sqlite_reader(ca.state / "ca.db", connections=1)
    else:
        engine = postgresql(url, schema=SCHEMA.name, application_name="test", connections=1)
    try:
        yield Life(ca, engine)
    finally:
        engine.dispose()
        ca.abandon()
    shutil.rmtree(directory)


@pytest.fixture(scope="module")
def program() -> Iterator["Popen[str]"]:
    with forking() as started:
        yield started


@pytest.fixture(params=["sqlite", "postgresql"])
def new_life(request: pytest.FixtureRequest, program: "Popen[str]") -> Callable[[], AbstractContextManager[Life]]:
    """Makes lives, each on a database of its own, of each kind in turn."""

    @contextmanager
    def begin() -> Iterator[Life]:
        if request.param == "sqlite":
            with life(program, None) as made:
                yield made
            return
        server: Server = request.getfixturevalue("postgresql_server")
        shared = request.getfixturevalue("shared_directory")
        with fresh_postgresql_database(server, shared) as url, life(program, url) as made:
            yield made

    return begin


@pytest.mark.faults
@pytest.mark.timeout(120 + 30 * len(PASSAGES))
@pytest.mark.parametrize("failpoint", FAILPOINTS)
def test_whatever_dies_there_what_was_begun_is_finished_and_once(
    failpoint: str, new_life: Callable[[], AbstractContextManager[Life]]
) -> None:
    kills = 0
    for passage in PASSAGES:
        with new_life() as lived:
            ca = lived.ca
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
