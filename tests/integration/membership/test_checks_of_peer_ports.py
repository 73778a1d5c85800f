"""Checks of a peer port over real TLS: a finished handshake is no answer."""

from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from keyreeve_membership.authorities.ports import PeerCertificate
from keyreeve_membership.peers.dialing import PeerDialer
from support.agent_world import CHECK, TestArrayCa, World, _Certified, agents
from support.peer_certificates import TRUST_DOMAIN
from support.ports import free_port
from support.silent_port import SETTINGS, silent_port
from support.waiting import wait_until

ONE = f"one.{TRUST_DOMAIN}"


@dataclass
class CheckCertificates:
    """`ArrayAuthorities`, as far as a check needs it."""

    cas: dict[str, TestArrayCa]

    async def issue_check(self, authority_id: str, name: str, csr: bytes) -> PeerCertificate:
        ca = self.cas[authority_id]
        key = _Certified(x509.load_der_x509_csr(csr))
        leaf = ca.ca.leaf(dns=[name], usages=[x509.ExtendedKeyUsageOID.CLIENT_AUTH], key=key)  # type: ignore[arg-type]
        return PeerCertificate("1", leaf.certificate.public_bytes(Encoding.DER), ca.name, 0, 0)


def dialer(seconds: float = 5.0, **cas: TestArrayCa) -> PeerDialer:
    return PeerDialer(CheckCertificates(cas), TRUST_DOMAIN, seconds=seconds)  # type: ignore[arg-type]


async def test_an_agent_answers_a_check_of_a_ca_that_it_has_loaded_and_refuses_any_other(tmp_path: Path) -> None:
    world, address = World(), f"127.0.0.1:{free_port()}"
    async with agents(world, tmp_path, one=address) as started:
        await wait_until("it serves", lambda: bool(world.acknowledged))
        loaded, unknown = world.of(ONE).issuing, TestArrayCa.make(CHECK)
        checks = dialer(loaded=loaded, unknown=unknown)
        answer = await checks.check(ONE, address, authority_id="loaded", trusted_der=[loaded.der])
        assert (answer.problem, answer.boot_id) == ("", started["one"].view.boot_id)
        # In TLS 1.3 this handshake finishes for the client.
        assert (await checks.check(ONE, address, authority_id="unknown", trusted_der=[loaded.der])).problem
        wrong = await checks.check(f"two.{TRUST_DOMAIN}", address, authority_id="loaded", trusted_der=[loaded.der])
        assert wrong.problem.startswith("UNAVAILABLE")
        assert (await checks.check(ONE, address, authority_id="loaded", trusted_der=[unknown.der])).problem


@pytest.mark.parametrize("says", [b"", SETTINGS], ids=["nothing", "settings"])
async def test_a_port_that_is_silent_after_the_handshake_has_not_answered(tmp_path: Path, says: bytes) -> None:
    ca = TestArrayCa.make()
    checks = dialer(seconds=0.3, known=ca)
    async with silent_port(ca.peer(ONE), ca.ca.pem, tmp_path, says) as port:
        while not port.callers:  # a slow machine may need longer for the handshake
            answer = await checks.check(ONE, port.address, authority_id="known", trusted_der=[ca.der])
            assert answer.problem.startswith("DEADLINE_EXCEEDED")
