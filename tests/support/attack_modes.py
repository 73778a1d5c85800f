"""The modes of abuse of a CA by a client with a certificate, run by a process of its own: `running_attack`.

A process of its own, since the good client of a test must not wait for the attacker's interpreter. Its processor it shares
with the service all the same: `burning` takes as much of it and calls nobody, for comparison.
"""

import asyncio
import json
import os
import re
import secrets
import ssl
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from keyreeve import Context
from keyreeve.ca.v1 import certificate_service_pb2 as pb
from support import http2_attacker
from support.csr_writer import (
    ECDSA_SHA256,
    dns,
    ec_spki,
    info,
    modulus_without_small_factors,
    rsa_spki,
    san,
    signed,
    unsigned,
)
from support.http2_attacker import Attacker, Seen

LIST, WATCH = "/keyreeve.ca.v1.ProfileService/ListProfiles", "/grpc.health.v1.Health/Watch"
SIGN_MANY = "/keyreeve.ca.v1.CertificateService/SignCertificates"
SIGN_ONE = "/keyreeve.ca.v1.CertificateService/SignCertificate"
_DEADLINE = ("grpc-timeout", "30S")
_TESTS = str(Path(__file__).parents[1])
_SLICE_SECONDS = 0.02
_ADDRESSES = 20


def _csr_of_names(count: int) -> bytes:
    return signed(info(extensions=(san(*(dns(b"n%d.%s.example.test" % (at, _WORD)) for at in range(count))),)))


def _one(csr: bytes) -> bytes:
    item = pb.SignCertificateItem(profile="profiles/server", csr=csr)
    return pb.SignCertificateRequest(item=item, request_id=str(uuid.uuid4())).SerializeToString()


def _many(csr: bytes) -> bytes:
    items = [pb.SignCertificateItem(profile="profiles/server", csr=csr)] * 100
    return pb.SignCertificatesRequest(items=items, request_id=str(uuid.uuid4())).SerializeToString()


_WORD = secrets.token_hex(8).encode()
_P256 = "1.2.840.10045.3.1.7"


def _off_curve() -> bytes:
    return unsigned(info(spki=ec_spki(_P256, b"\x04" + bytes(31) + b"\x05" + bytes(31) + b"\x06")), ECDSA_SHA256, 71)


def _bad_signature() -> bytes:
    return signed(info(), ec.derive_private_key(8, ec.SECP256R1()))


def _large_key() -> bytes:
    return unsigned(info(spki=rsa_spki(modulus_without_small_factors(16_384))), size=2048)


def _calls(
    path: str, make: Callable[[bytes], bytes], csr: Callable[[], bytes], at_once: int = 16
) -> Callable[[Attacker], Awaitable[None]]:
    def attack(attacker: Attacker) -> Awaitable[None]:
        made = csr()
        return attacker.keep(4, http2_attacker.call_repeatedly(path, at_once, lambda: make(made)))

    return attack


SIGNING = frozenset({"names400", "batches", "offcurve", "badsignature", "rsa16384"})
"""The attacks that ask for certificates."""
ATTACKS: dict[str, Callable[[Attacker], Awaitable[None]]] = {
    "halfmsg": lambda a: a.hold(20, http2_attacker.half_sent(SIGN_MANY, 50, 2 * 1024 * 1024, _DEADLINE)),
    "halfopen": lambda a: a.hold(250, http2_attacker.half_open(SIGN_MANY, 100, _DEADLINE, ("x-a", "~" * 15_000))),
    "unread": lambda a: a.hold(20, http2_attacker.unread(LIST, 5_000, _DEADLINE)),
    "streams": lambda a: a.hold(10, http2_attacker.open_streams(WATCH, 500, b"")),
    "rapid": lambda a: a.flood(4, http2_attacker.reset_at_once(LIST)),
    "rapiddata": lambda a: a.flood(4, http2_attacker.complete_and_reset(LIST)),
    "ping": lambda a: a.flood(4, http2_attacker.ping),
    "idle": lambda a: a.hold(400, http2_attacker.nothing),
    "bigmeta": lambda a: a.hold(20, http2_attacker.large_metadata(LIST, 1_000, 17_000, 60_000, 200_000)),
    "names400": _calls(SIGN_ONE, _one, lambda: _csr_of_names(400)),
    "batches": _calls(SIGN_MANY, _many, lambda: _csr_of_names(100), 4),
    "offcurve": _calls(SIGN_ONE, _one, _off_curve),
    "badsignature": _calls(SIGN_ONE, _one, _bad_signature),
    "rsa16384": _calls(SIGN_ONE, _one, _large_key),
}


@dataclass
class Attack:
    """An attack that runs in a process of its own, or has run."""

    process: "subprocess.Popen[str]"
    seen: Seen = field(default_factory=Seen)
    cpu: float = 0.0
    """The share of a processor that it took."""

    @property
    def over(self) -> bool:
        return self.process.poll() is not None

    def finish(self) -> None:
        """Wait for its end, and read what the server made of it."""
        told, _ = self.process.communicate(timeout=120)
        assert self.process.returncode == 0, "the attacker has failed"
        found = json.loads(told)
        self.cpu = found.pop("cpu")
        self.seen = Seen(**{key: Counter(one) if isinstance(one, dict) else one for key, one in found.items()})


@contextmanager
def running_attack(name: str, address: str, context: Context, seconds: float) -> Iterator[Attack]:
    """Attack while the context lasts; it begins once the attack does."""
    with _running("attack", name, address, str(context.certificate), str(context.key), str(seconds)) as attack:
        yield attack


@contextmanager
def running_flood(port: int, request: bytes, seconds: float) -> Iterator[Attack]:
    """Ask a plain-HTTP listener the same from 20 addresses of loopback while the context lasts."""
    with _running("flood", str(port), request.hex(), str(seconds)) as attack:
        yield attack


@contextmanager
def burning(share: float, seconds: float) -> Iterator[Attack]:
    """Take a share of a processor while the context lasts."""
    with _running("burn", str(share), str(seconds)) as burner:
        yield burner


@contextmanager
def _running(*arguments: str) -> Iterator[Attack]:
    process = subprocess.Popen(
        [sys.executable, "-m", "support.attack_modes", *arguments],
        env=os.environ | {"PYTHONPATH": _TESTS},
        stdout=subprocess.PIPE,
        text=True,
    )
    attack = Attack(process)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "ready\n", "the attacker does not start"
        yield attack
        attack.finish()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def _tls(certificate: str, key: str) -> ssl.SSLContext:
    made = ssl.create_default_context()
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE  # the attacker does not care whom it talks to
    made.set_alpn_protocols(["h2"])
    made.load_cert_chain(certificate, key)
    return made


def _attack(name: str, address: str, certificate: str, key: str, seconds: str) -> Seen:
    attacker = Attacker(address, _tls(certificate, key), float(seconds))

    async def run() -> None:
        prepared = ATTACKS[name](attacker)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await prepared

    asyncio.run(run())
    return attacker.seen


def _flood(port: str, request: str, seconds: str) -> Seen:
    seen, until = Seen(), time.monotonic() + float(seconds)

    async def ask(address: str) -> None:
        while time.monotonic() < until:
            with suppress(OSError, asyncio.IncompleteReadError, ValueError):
                reader, writer = await asyncio.open_connection("127.0.0.1", int(port), local_addr=(address, 0))
                seen.connections += 1
                try:
                    while time.monotonic() < until:
                        writer.write(bytes.fromhex(request))
                        answer = await reader.readuntil(b"\r\n\r\n")
                        seen.statuses[answer.split(maxsplit=2)[1].decode()] += 1
                        length = re.search(rb"Content-Length: (\d+)", answer)
                        await reader.readexactly(0 if length is None else int(length[1]))
                finally:
                    writer.transport.abort()

    async def run() -> None:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await asyncio.gather(*(ask(f"127.0.1.{1 + number % _ADDRESSES}") for number in range(3 * _ADDRESSES)))

    asyncio.run(run())
    return seen


def _burn(share: str, seconds: str) -> Seen:
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    began = time.monotonic()
    used = time.process_time()
    while (elapsed := time.monotonic() - began) < float(seconds):
        if time.process_time() - used > float(share) * elapsed:
            time.sleep(_SLICE_SECONDS)
    return Seen()


if __name__ == "__main__":
    kind, *told = sys.argv[1:]
    began, before = time.monotonic(), time.process_time()
    result = {"attack": _attack, "flood": _flood, "burn": _burn}[kind](*told)
    taken = (time.process_time() - before) / (time.monotonic() - began)
    sys.stdout.write(json.dumps({**vars(result), "cpu": taken}))
