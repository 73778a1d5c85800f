"""The feed of revocations on the side of whoever follows it: what is taken in, what is refused, and what stays on disk."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from keyreeve.errors import RevocationsRefused
from keyreeve.revocation_feed import RevokedCallers, update_message
from keyreeve.values import RevocationUpdate
from support.peer_certificates import TRUST_DOMAIN, Hierarchies, Leaf

VECTORS = Path(__file__).parents[2] / "vectors"
ONE, TWO = (b"@" + bytes(14) + bytes([n]) for n in (1, 2))


class World:
    """A CA service that signs, a clock, and somebody who follows."""

    def __init__(self, path: Path | None = None) -> None:
        self.hierarchies = Hierarchies.make()
        self.leaf = self.hierarchies.control.service("ca")
        self.time = float(int(self.leaf.certificate.not_valid_before_utc.timestamp()) + 600)
        self.roots = [self.hierarchies.control_root.certificate]
        self.callers = RevokedCallers(TRUST_DOMAIN, path, now=self.now, clock=self.now)

    def now(self) -> float:
        return self.time

    def update(
        self,
        after: int,
        seq: int,
        *serials: bytes,
        restore_generation: int = 1,
        leaf: Leaf | None = None,
        chain: Sequence[bytes] | None = None,
    ) -> RevocationUpdate:
        leaf = leaf or self.leaf
        revoked = tuple((serial, int(self.time) + 3600) for serial in serials)
        message = update_message(
            TRUST_DOMAIN, restore_generation, after_seq=after, seq=seq, time=int(self.time), revoked=revoked
        )
        key = load_pem_private_key(leaf.key_pem, None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        der = [one.public_bytes(Encoding.DER) for one in x509.load_pem_x509_certificates(leaf.chain_pem)]
        signature = key.sign(message, ec.ECDSA(hashes.SHA256()))
        return RevocationUpdate(
            restore_generation, after, seq, int(self.time), revoked, signature, tuple(der if chain is None else chain)
        )

    def apply(self, update: RevocationUpdate) -> None:
        self.callers.apply(update, self.roots)


def number(serial: bytes) -> int:
    return int.from_bytes(serial)


def test_what_is_signed_is_what_the_vectors_say() -> None:
    for vector in json.loads((VECTORS / "revocation_updates.json").read_text())["vectors"]:
        revoked = [(bytes.fromhex(one["serial"]), one["not_after"]) for one in vector["revoked"]]
        message = update_message(
            vector["trust_domain"],
            vector["restore_generation"],
            after_seq=vector["after_seq"],
            seq=vector["seq"],
            time=vector["time"],
            revoked=revoked,
        )
        assert message.hex() == vector["message"]


def test_the_vectors_are_what_their_generator_makes() -> None:
    subprocess.run([sys.executable, str(VECTORS / "make_revocation_updates.py"), "--check"], check=True)


def test_a_beginning_then_news_then_a_sign_of_life() -> None:
    world = World()
    assert world.callers.age() == float("inf")
    world.apply(world.update(0, 1, ONE))
    world.apply(world.update(1, 2, TWO, chain=()))
    assert [world.callers.is_revoked(number(one)) for one in (ONE, TWO)] == [True, True]
    world.time += 3
    assert world.callers.age() == 3
    world.apply(world.update(2, 2, chain=()))
    assert world.callers.age() == 0


def test_news_that_do_not_follow_are_refused_and_nothing_changes() -> None:
    world = World()
    world.apply(world.update(0, 3, ONE))
    world.time += 2
    for wrong in (world.update(4, 5, TWO), world.update(1, 5, TWO), world.update(3, 5, TWO, restore_generation=2)):
        with pytest.raises(RevocationsRefused):
            world.apply(wrong)
    assert (world.callers.seq, world.callers.age(), world.callers.is_revoked(number(TWO))) == (3, 2, False)


def test_a_new_beginning_of_the_same_history_takes_nothing_back_and_one_of_another_does() -> None:
    world = World()
    world.apply(world.update(0, 3, ONE))
    world.apply(world.update(0, 2, TWO))
    assert world.callers.is_revoked(number(ONE))
    world.apply(world.update(0, 1, TWO, restore_generation=2))
    assert [world.callers.is_revoked(number(one)) for one in (ONE, TWO)] == [False, True]


def test_only_the_ca_service_of_the_control_hierarchy_is_believed() -> None:
    world, other = World(), World()
    strangers = {
        "another role": world.hierarchies.control.service("membership"),
        "a person": world.hierarchies.control.person("operators/admin/ann"),
        "another hierarchy": other.leaf,
    }
    for leaf in strangers.values():
        with pytest.raises(RevocationsRefused):
            world.apply(world.update(0, 1, ONE, leaf=leaf))
    forged = world.update(0, 1, ONE)
    with pytest.raises(RevocationsRefused):
        world.apply(RevocationUpdate(1, 0, 2, forged.time, forged.revoked, forged.signature, forged.signer_der))
    with pytest.raises(RevocationsRefused):
        world.apply(world.update(0, 1, ONE, chain=()))
    assert not world.callers.is_revoked(number(ONE))


def test_an_old_update_played_again_is_refused() -> None:
    world = World()
    old = world.update(0, 1, ONE)
    world.time += 61
    with pytest.raises(RevocationsRefused, match="dated"):
        world.apply(old)


def test_what_is_known_outlives_the_process_with_its_age_and_forgets_what_has_expired(tmp_path: Path) -> None:
    path = tmp_path / "revoked.json"
    world = World(path)
    world.apply(world.update(0, 2, ONE, TWO))
    world.time += 120
    again = RevokedCallers.load(TRUST_DOMAIN, path, now=world.now, clock=world.now)
    assert (again.restore_generation, again.seq, again.age()) == (1, 2, 120)
    assert again.is_revoked(number(ONE))
    assert path.stat().st_mode & 0o777 == 0o600
    world.time += 5000
    world.callers = again
    world.apply(world.update(2, 3))
    assert not again.is_revoked(number(ONE))


@pytest.mark.parametrize("damage", ["", "{}", "[]", '{"trust_domain": "other.test"}', "\x00"])
def test_a_file_that_cannot_be_read_is_as_none(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "revoked.json"
    path.write_text(damage)
    loaded = RevokedCallers.load(TRUST_DOMAIN, path)
    assert (loaded.restore_generation, loaded.seq, loaded.age()) == (0, 0, float("inf"))
