"""Two CA instances on one PostgreSQL database, each with its own processes, sockets and ports."""

import asyncio
import os
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from subprocess import Popen

import grpc
import pytest
from cryptography import x509

from keyreeve import Client, Context, SignItem
from keyreeve.audit.log import ChainState, Checkpoint
from keyreeve.audit.verifying import Verifier
from keyreeve.ca.v1 import authority_service_pb2 as pb
from keyreeve.ca.v1.authority_service_pb2_grpc import AuthorityServiceStub
from keyreeve.channel_credentials import pinned_options
from keyreeve.enrollment import enroll
from keyreeve.enrollment_token import EnrollmentToken
from keyreeve.errors import IssuanceHalted, KeyreeveError
from keyreeve.identity import service_dns_name
from keyreeve.keys import make_csr, make_key
from keyreeve.operation_values import OperationState
from keyreeve.request_ids import new_request_id
from keyreeve.retry import NO_RETRY
from keyreeve.status import error_from_rpc
from keyreeve.values import CertificateState, CrlReason, IssuanceStatus, Name
from support.databases import fresh_postgresql_database
from support.enrollment_race import ENROLLEES, LATE, csrs, race, settled
from support.forked_ca import ForkedCa, again_and_again, forked_ca, forking_program, join
from support.postgres import Server
from support.waiting import wait_for

__all__ = ["forking_program"]

ROUNDS = int(os.environ.get("KEYREEVE_TEST_ROUNDS", "3"))
"""A hundred take some minutes."""
ELSEWHERE = 5.0
"""Seconds within which a revoked caller is put out on another replica."""
HERE = 1.0
"""And on the same one."""
NO_LIMITS = {
    "ENROLL__CALLS_IN_FLIGHT": "512",
    "ENROLL__CALLS_PER_ADDRESS": "512",
    "ENROLL__CALLS_PER_SECOND": "10000",
    "ENROLL__CALLS_AT_ONCE": "10000",
}

pytestmark = pytest.mark.faults


@dataclass(frozen=True)
class Replicas:
    """Both, and an admin's way to each."""

    instances: tuple[ForkedCa, ForkedCa]
    context: Context

    def context_at(self, number: int, context: Context | None = None) -> Context:
        return replace(context or self.context, endpoints={"ca": self.instances[number].address})

    def client(self, number: int, context: Context | None = None) -> Client:
        return Client(self.context_at(number, context), timeout=20)

    def enrollee(self, name: str) -> Context:
        """A workload that has enrolled with the first one."""
        first = self.instances[0]
        with self.client(0) as admin:
            token = admin.tokens.create(f"spiffe://example.test/workloads/{name}", address=first.enroll_address)
        return enroll(token.text, first.directory / name)


@contextmanager
def two(program: "Popen[str]", server: Server) -> Iterator[Replicas]:
    with (
        fresh_postgresql_database(server) as url,
        forked_ca(program, url, INSTANCE="one", **NO_LIMITS) as first,
        forked_ca(program, url, INSTANCE="two", **NO_LIMITS) as second,
    ):
        first.serve()
        join(first, second)
        second.serve()
        yield Replicas((first, second), again_and_again("the first operator has a certificate", first.admit))
        for instance in (second, first):
            if instance.processes:
                instance.stop()


@pytest.fixture(scope="module")
def replicas(forking_program: "Popen[str]", postgresql_server: Server) -> Iterator[Replicas]:
    """Two that all tests share: they leave them as they were."""
    with two(forking_program, postgresql_server) as made:
        yield made


@pytest.fixture
def own_replicas(forking_program: "Popen[str]", postgresql_server: Server) -> Iterator[Replicas]:
    """Two for one test, which may kill them."""
    with two(forking_program, postgresql_server) as made:
        yield made


# --- One token ----------------------------------------------------------------------------------------------------------


@pytest.mark.timeout(120 + 60 * ROUNDS)
def test_of_two_hundred_keys_with_one_token_over_two_replicas_one_is_certified(replicas: Replicas) -> None:
    addresses = [instance.enroll_address for instance in replicas.instances]
    with replicas.client(0) as one, replicas.client(1) as other:
        for turn in range(ROUNDS):
            identity = f"spiffe://example.test/workloads/raced/{turn}"
            token = EnrollmentToken.parse((one, other)[turn % 2].tokens.create(identity, address=addresses[0]).text)
            told, certificates = settled(asyncio.run(race(addresses, token, csrs())))
            late = told.pop(LATE, 0)
            assert set(told) <= {"TOKEN_USED"}
            assert told["TOKEN_USED"] + late + len(certificates) == ENROLLEES
            for client in (one, other):
                listed = [found.certificate_der for found in client.certificates.list(identity=identity)]
                assert len(listed) <= 1
                assert listed == certificates or late


# --- Put out ------------------------------------------------------------------------------------------------------------


class Stream:
    """A caller that watches a bundle, with the time and the error at which the stream ended."""

    def __init__(self, context: Context) -> None:
        credentials = grpc.ssl_channel_credentials(
            context.bundle.read_bytes(), context.key.read_bytes(), context.certificate.read_bytes()
        )
        address = context.endpoint("ca")
        options = pinned_options(address, service_dns_name("ca", context.trust_domain))
        self._channel = grpc.secure_channel(address, credentials, options=options)
        self._call = AuthorityServiceStub(self._channel).WatchBundle(pb.WatchBundleRequest(name="bundles/control"))
        next(self._call)
        self.reason, self.ended = "", 0.0
        self._thread = threading.Thread(target=self._drain, daemon=True)
        self._thread.start()

    def _drain(self) -> None:
        try:
            for _ in self._call:
                pass
        except grpc.RpcError as failure:
            self.reason = error_from_rpc(failure, "the CA").reason
        self.ended = time.monotonic()

    def seconds_after(self, began: float) -> float:
        """How long it went on; waits for its end."""
        self._thread.join(60)
        assert not self._thread.is_alive()
        self._channel.close()
        return self.ended - began


def serial_of(context: Context) -> str:
    return f"{x509.load_pem_x509_certificates(context.certificate.read_bytes())[0].serial_number:032x}"


def test_a_revoked_caller_is_cut_off_in_the_middle_of_a_stream_on_both_replicas(replicas: Replicas) -> None:
    here, elsewhere = [], []
    for turn in range(3):
        enrollee = replicas.enrollee(f"streaming-{turn}")
        streams = [Stream(replicas.context_at(number, enrollee)) for number in range(2)]
        with replicas.client(0) as admin:
            admin.certificates.revoke(serial_of(enrollee), CrlReason.KEY_COMPROMISE)
        began = time.monotonic()
        here.append(streams[0].seconds_after(began))
        elsewhere.append(streams[1].seconds_after(began))
        assert [stream.reason for stream in streams] == ["PEER_CERTIFICATE_REVOKED"] * 2
        for number in range(2):
            with Client(replicas.context_at(number, enrollee), retry=NO_RETRY) as late:
                with pytest.raises(KeyreeveError) as refused:
                    late.profiles.get("server", timeout=20)
                assert refused.value.reason == "PEER_CERTIFICATE_REVOKED"
    # The best of three: what a busy machine adds is not the service's.
    assert max(elsewhere) < ELSEWHERE, elsewhere
    assert min(here) < HERE, here


def test_what_is_revoked_through_one_replica_is_on_the_list_that_the_other_serves(replicas: Replicas) -> None:
    csr = make_csr(make_key(), [Name.dns("web.example.test")])
    numbers: dict[str, list[int]] = {}
    for turn in range(4):
        with replicas.client(turn % 2) as signs, replicas.client(1 - turn % 2) as revokes:
            signed = signs.certificates.sign("server", csr)
            revokes.certificates.revoke(signed.serial, CrlReason.SUPERSEDED)
        leaf = x509.load_der_x509_certificate(signed.certificate_der)
        [point] = leaf.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
        assert point.full_name is not None
        path = str(point.full_name[0].value).partition("/crl/")[2]

        def listed(instance: ForkedCa, path: str = path, leaf: x509.Certificate = leaf) -> bool:
            with urllib.request.urlopen(f"{instance.url}/crl/{path}", timeout=20) as answer:
                found = x509.load_der_x509_crl(answer.read())
            number = found.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
            numbers.setdefault(path, []).append(number)
            return found.get_revoked_certificate_by_serial_number(leaf.serial_number) is not None

        for instance in replicas.instances:
            wait_for("it is listed", lambda instance=instance, listed=listed: listed(instance))
    for seen in numbers.values():
        assert seen == sorted(seen)


# --- Halted -------------------------------------------------------------------------------------------------------------


def test_a_halt_through_one_replica_stops_the_other_while_it_signs(replicas: Replicas) -> None:
    csr, ended, signed = make_csr(make_key(), [Name.dns("load.example.test")]), [], [0]

    def sign() -> None:
        with replicas.client(1) as client:
            try:
                while True:
                    client.certificates.sign("server", csr)
                    signed[0] += 1
            except KeyreeveError as failure:
                ended.append(failure)

    threads = [threading.Thread(target=sign, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    with replicas.client(0) as one, replicas.client(1) as other:
        wait_for("the other signs", lambda: signed[0] > 20)
        one.issuance.halt("a test")
        halted_at = datetime.now(UTC)
        try:
            for thread in threads:
                thread.join(60)
            assert [type(failure) for failure in ended] == [IssuanceHalted] * len(threads)
            assert other.issuance.state().status is IssuanceStatus.HALTED
            issued = [found.issued_at for found in other.certificates.list(profile="server", page_size=500)]
            assert max(issued) <= halted_at + timedelta(seconds=2)
            assert other.certificates.list(profile="server"), "reads go on"
        finally:
            other.issuance.resume("the test is over")
        assert one.certificates.sign("server", csr).serial


# --- Operations ---------------------------------------------------------------------------------------------------------


@pytest.mark.timeout(240)
def test_when_the_replica_that_leads_operations_is_killed_the_other_takes_over(own_replicas: Replicas) -> None:
    items = [SignItem("server", make_csr(make_key(), [Name.dns("web.example.test")]))] * 100
    with own_replicas.client(0) as one:
        signed = [found for _ in range(8) for found in one.certificates.sign_many(items)]
        assert not [found for found in signed if isinstance(found, KeyreeveError)]
        operation = one.certificates.revoke_many(CrlReason.SUPERSEDED, profile="server")
    rows = own_replicas.instances[0].rows

    def leader() -> str | None:
        found = rows("SELECT l.owner_nonce FROM leases l, operations o WHERE l.expires_ms > 0 AND o.done > 0")
        return str(found[0][0]) if found else None

    names = ("one", "two")
    killed = names.index(wait_for("one leads", leader).partition("/")[0])
    own_replicas.instances[killed].abandon()
    [(fence, done)] = rows("SELECT l.fence, o.done FROM leases l, operations o")
    assert (fence, 0 < done < len(signed)) == (1, True)
    with own_replicas.client(1 - killed) as other:
        *_, last = other.operations.watch(operation.name)
    assert (last.state, last.done, last.total) == (OperationState.SUCCEEDED, len(signed), len(signed))
    [(fence, owner)] = rows("SELECT fence, owner_nonce FROM leases")
    assert (fence, owner.partition("/")[0]) == (2, names[1 - killed])
    [(revoked, numbers)] = rows("SELECT count(*), count(DISTINCT seq) FROM revocations")
    assert revoked == numbers == len(signed), "nothing is revoked twice"


# --- On record ----------------------------------------------------------------------------------------------------------


def verified(client: Client) -> Verifier:
    """The whole log as one replica gives it, verified here and by the replica."""
    assert client.audit.verify().problems == ()
    verifier = Verifier(client.audit.checkpoint().spki)
    for segment in client.audit.segments():
        verifier.add(segment)
    assert verifier.problems == []
    return verifier


def test_the_acts_of_both_replicas_are_in_one_log_that_both_verify(replicas: Replicas) -> None:
    marks = [new_request_id(), new_request_id()]
    for number, mark in enumerate(marks):
        with replicas.client(number) as client:
            csr = make_csr(make_key(), [Name.dns("web.example.test")])
            client.certificates.sign("server", csr, request_id=mark)
    with replicas.client(0) as one, replicas.client(1) as other:
        for client in (one, other):
            for mark in marks:
                found = wait_for("the record", lambda client=client, mark=mark: list(client.audit.list(id=mark)))
                assert len(found) == 1
            last = verified(client).last
            assert last is not None
        ks = [row[0] for row in replicas.instances[0].rows("SELECT k FROM audit_checkpoints ORDER BY k")]
        assert ks == list(range(1, len(ks) + 1))
    writers = {row[0].split("/")[0] for row in replicas.instances[0].rows("SELECT writer FROM audit_chains")}
    assert writers == {"one", "two"}


@pytest.mark.timeout(240)
def test_when_one_replica_is_killed_the_other_goes_on_and_ends_its_chains(own_replicas: Replicas) -> None:
    first, second = own_replicas.instances
    with own_replicas.client(0) as one:
        one.certificates.sign("server", make_csr(make_key(), [Name.dns("web.example.test")]))
    first.abandon()
    with own_replicas.client(1) as other:
        signed = other.certificates.sign("server", make_csr(make_key(), [Name.dns("web.example.test")]))
        told = other.certificates.revoke(signed.serial, CrlReason.SUPERSEDED)
        assert told.state is CertificateState.REVOKED

        def chains() -> set[str]:
            rows = second.rows("SELECT DISTINCT state FROM audit_chains WHERE writer LIKE 'one/%'")
            return {str(row[0]) for row in rows}

        # A process counts as alive for 20 s after it was last heard of.
        wait_for("its chains are ended", lambda: chains() == {ChainState.ABANDONED}, 120)
        wait_for("its blocks are void", lambda: not second.rows(OPEN_BLOCKS), 120)
        before = other.audit.checkpoint().checkpoint.k
        other.profiles.get("server")
        wait_for("a checkpoint after that", lambda: other.audit.checkpoint().checkpoint.k > before)
        last = verified(other).last
        assert isinstance(last, Checkpoint)
        assert not any(head.state is ChainState.OPEN and head.chain in killed_chains(second) for head in last.heads)


OPEN_BLOCKS = "SELECT block_id FROM serial_blocks WHERE state = 'open' AND worker_id LIKE 'one/%'"


def killed_chains(instance: ForkedCa) -> set[bytes]:
    return {bytes(row[0]) for row in instance.rows("SELECT chain_id FROM audit_chains WHERE writer LIKE 'one/%'")}
