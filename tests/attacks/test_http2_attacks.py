"""Abuse of HTTP/2 by a client with a certificate: memory stays bounded, and no other caller is refused.

The modes and figures are those of docs/hardening.md; KEYREEVE_ATTACK_SECONDS makes each attack longer.
"""

import itertools
import os
import secrets
import socket
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.ocsp import OCSPRequestBuilder

from keyreeve import Context
from keyreeve.ca.v1 import certificate_service_pb2 as certificate_pb
from keyreeve.keys import make_csr, make_key
from keyreeve.values import Name
from keyreeve_ca.store.ports import CertificateFilter
from support.attack_modes import ATTACKS, LIST, SIGN_ONE, SIGNING, burning, running_attack, running_flood
from support.attack_table import SHOWN, Row
from support.control_plane import CA, ControlPlane
from support.http2_attacker import Seen
from support.running_ca import OPERATOR, WORKLOAD, RunningCa, running

MOST_BYTES = 400 * 1024 * 1024
KEY = make_key()
SECONDS = float(os.environ.get("KEYREEVE_ATTACK_SECONDS", "2"))


@dataclass
class GoodClient:
    """Another caller: one call after the other, without retries."""

    channel: grpc.Channel
    method: str = LIST
    request: Callable[[], bytes] = bytes
    outcomes: Counter[str] = field(default_factory=Counter)
    rate: float = 0.0
    """Answered calls per second, once it has ended."""

    @contextmanager
    def calling(self) -> Iterator["GoodClient"]:
        """Call while the context lasts."""
        stop, began = threading.Event(), time.monotonic()
        call = self.channel.unary_unary(self.method)

        def work() -> None:
            while not stop.is_set():
                try:
                    call(self.request(), timeout=10)
                    self.outcomes["answered"] += 1
                except grpc.RpcError as failed:
                    self.outcomes[f"{failed.code().name}: {failed.details()}"] += 1

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield self
        finally:
            stop.set()
            thread.join()
            self.rate = self.outcomes["answered"] / (time.monotonic() - began)


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ControlPlane, Context]]:
    """A control plane of its own, and a second person's context."""
    control_plane = ControlPlane(tmp_path_factory.mktemp("attacked"))
    control_plane.up()
    try:
        token = control_plane.run("operator", "invite", "bob", "--role", "operator", "-q")
        assert token.code == 0, token.err
        accepted = control_plane.run("operator", "accept", "--dir", "bob", given=token.out.encode())
        assert accepted.code == 0, accepted.err
        yield control_plane, Context.load(control_plane.directory / "bob/context.json")
    finally:
        control_plane.down()


def worst(control_plane: ControlPlane) -> int:
    return max(size for name, size in control_plane.memory().items() if name.startswith("worker"))


@pytest.mark.timed
@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_takes_bounded_memory_and_refuses_nobody_else(
    attacked: tuple[ControlPlane, Context], name: str, attack_table: Callable[[Row], None]
) -> None:
    control_plane, bob = attacked
    endpoint, largest = control_plane.context.endpoint(CA.name), [worst(control_plane)]
    calls = (SIGN_ONE, signing) if name in SIGNING else (LIST, bytes)
    before = undisturbed(bob, *calls)
    with (
        channel_of(bob) as channel,
        running_attack(name, endpoint, control_plane.context, SECONDS) as attack,
        GoodClient(channel, *calls).calling() as good,
    ):
        began, used = time.monotonic(), processor_time(control_plane)
        while not attack.over and time.monotonic() - began < SECONDS:
            time.sleep(0.2)
            largest.append(worst(control_plane))
        taken = (processor_time(control_plane) - used) / (time.monotonic() - began)
    beside = undisturbed(bob, *calls, share=attack.cpu)
    after = undisturbed(bob, *calls)
    processors = (attack.cpu, taken)
    attack_table(Row(f"`{name}`", refusals(attack.seen), before, beside, good.rate, after, processors, max(largest)))
    print(
        f"{name}: largest worker {max(largest) >> 20} MiB; good client {dict(good.outcomes)}, {good.rate:.0f}/s of "
        f"{beside:.0f}/s; attacker {attack.cpu:.0%} of a processor, the service {taken:.0%}; attacker {attack.seen}"
    )
    assert max(largest) < MOST_BYTES
    assert good.outcomes.keys() == {"answered"}
    assert attack.seen.connections > 0
    assert control_plane.run("status").code == 0


@pytest.fixture(scope="module")
def on_postgresql(request: pytest.FixtureRequest) -> Iterator[RunningCa]:
    """A CA on PostgreSQL in this process."""
    with running("postgresql", request, workers=1) as ca:
        yield ca


@pytest.mark.faults
@pytest.mark.parametrize("name", sorted(SIGNING))
def test_bad_requests_for_certificates_stop_nobody_on_postgresql_either(on_postgresql: RunningCa, name: str) -> None:
    ca = on_postgresql
    attacker = ca.context(OPERATOR)
    with (
        GoodClient(ca.channel(WORKLOAD), SIGN_ONE, signing).calling() as good,
        running_attack(name, attacker.endpoint("ca"), attacker, min(SECONDS, 1.0)) as attack,
    ):
        pass
    assert good.outcomes.keys() == {"answered"}
    assert attack.seen.statuses or attack.seen.ends, "it was told something"
    if name != "batches":
        wanted = CertificateFilter(caller=ca.identity(OPERATOR))
        assert ca.read(lambda tx: tx.certificates(wanted, after=b"", limit=1)) == []


@pytest.mark.faults
def test_nonsense_from_anybody_fills_no_log(attacked: tuple[ControlPlane, Context]) -> None:
    control_plane, _ = attacked
    settings = yaml.safe_load(control_plane.state_directory.config(CA.name).read_text())
    log = control_plane.state_directory.log(CA.name)
    before, sent = log.stat().st_size, 0
    for port in (settings["listen"]["port"], settings["enroll"]["port"], settings["http"]["port"]):
        for number in range(500):
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
                connection.settimeout(5)
                connection.sendall(b"GET /%d HTTP/9.9\r\nA: \x00\r\n\r\n" % number)
                connection.recv(1)
                sent += 1
    written = log.read_bytes()[before:]
    assert sent > 1_000
    assert len(written) < 64 * 1024
    assert b"Traceback" not in written
    assert b'"exception"' not in written


@pytest.mark.timed
def test_floods_of_ocsp_from_many_addresses_stop_no_issuance(
    attacked: tuple[ControlPlane, Context], attack_table: Callable[[Row], None]
) -> None:
    control_plane, bob = attacked
    settings = yaml.safe_load(control_plane.state_directory.config(CA.name).read_text())
    port = settings["http"]["port"]
    signed = control_plane.run("cert", "issue", "web.example.test", "--out", str(control_plane.directory / "web"))
    assert signed.code == 0, signed.err
    chain = x509.load_pem_x509_certificates((control_plane.directory / "web/certificate.pem").read_bytes())
    asked = OCSPRequestBuilder().add_certificate(chain[0], chain[1], hashes.SHA1()).build()  # RFC 5019
    body = asked.public_bytes(Encoding.DER)
    head = (
        f"POST /ocsp HTTP/1.1\r\nHost: x\r\nContent-Type: application/ocsp-request\r\nContent-Length: {len(body)}\r\n"
    )
    before = undisturbed(bob, SIGN_ONE, signing)
    with (
        channel_of(bob) as channel,
        running_flood(port, head.encode() + b"\r\n" + body, SECONDS) as attack,
        GoodClient(channel, SIGN_ONE, signing).calling() as good,
    ):
        used = processor_time(control_plane)
        time.sleep(SECONDS)
        taken = (processor_time(control_plane) - used) / SECONDS
    beside = undisturbed(bob, SIGN_ONE, signing, share=attack.cpu)
    after = undisturbed(bob, SIGN_ONE, signing)
    told = ", ".join(f"{status} {count:,}" for status, count in attack.seen.statuses.most_common(3))
    processors = (attack.cpu, taken)
    attack_table(Row("`ocsp`", told, before, beside, good.rate, after, processors, worst(control_plane)))
    print(f"ocsp: good client {dict(good.outcomes)}; attacker {attack.seen}")
    assert good.outcomes.keys() == {"answered"}
    assert attack.seen.statuses["200"] > 0


def signing() -> bytes:
    """A request for one certificate."""
    csr = make_csr(KEY, [Name.dns(f"n{secrets.token_hex(6)}.example.test")])
    item = certificate_pb.SignCertificateItem(profile="profiles/server", csr=csr)
    return certificate_pb.SignCertificateRequest(item=item, request_id=str(uuid.uuid4())).SerializeToString()


def undisturbed(
    context: Context, method: str = LIST, request: Callable[[], bytes] = bytes, *, share: float = 0.0
) -> float:
    """Calls per second of a good client without an attack, beside a process that takes a share of a processor.

    0 where it is not asked for.
    """
    if SHOWN not in os.environ:
        return 0.0
    seconds = SECONDS / 2
    with (
        channel_of(context) as channel,
        burning(share, seconds) if share else nullcontext(),
        GoodClient(channel, method, request).calling() as good,
    ):
        time.sleep(seconds)
    return good.rate


def processor_time(control_plane: ControlPlane) -> float:
    """Seconds that the service's processes have spent."""
    spent = 0.0
    for pid in itertools.chain.from_iterable(control_plane.children().values()):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
        spent += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return spent


def refusals(seen: Seen) -> str:
    """What the attacker was told, the most frequent first."""
    names = {str(code.value[0]): code.name for code in grpc.StatusCode}
    told = Counter({names.get(code, code): count for code, count in seen.statuses.items()})
    told += seen.ends
    if seen.resets:
        told["RST_STREAM"] = seen.resets
    return ", ".join(f"{what} {count:,}" for what, count in told.most_common(3))


def channel_of(context: Context) -> grpc.Channel:
    """A channel without retries."""
    credentials = grpc.ssl_channel_credentials(
        context.bundle.read_bytes(), context.key.read_bytes(), context.certificate.read_bytes()
    )
    options = [("grpc.ssl_target_name_override", "ca.svc.dev.localhost"), ("grpc.enable_retries", 0)]
    return grpc.secure_channel(context.endpoint(CA.name), credentials, options)
