"""Renewal proofs: vectors on both sides, and nonces."""

import json
import runpy
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key

from keyreeve.cli.certificates.device_touch import NAMESPACE
from keyreeve.errors import RenewalProofInvalid
from keyreeve.keys import renewal_message, sign_renewal
from keyreeve_ca.issuance.renewal import NONCE_LIFETIME, TOUCH_NAMESPACE, Nonces, proof_message
from keyreeve_ca.requests.device_signature import verify_touch
from keyreeve_ca.requests.key_rules import KnownKeys
from keyreeve_ca.requests.openssh_keys import read_operator_key

DIRECTORY = Path(__file__).parents[3] / "vectors"
GENERATOR = runpy.run_path(str(DIRECTORY / "make_renewal.py"))
VECTORS = json.loads((DIRECTORY / "renewal.json").read_text())["vectors"]
TOUCHES = json.loads((DIRECTORY / "renewal.json").read_text())["touches"]["vectors"]
SERIAL = bytes(range(16))


def verify(vector, signature):
    key, message = load_der_public_key(bytes.fromhex(vector["old_spki"])), bytes.fromhex(vector["message"])
    match key:
        case ec.EllipticCurvePublicKey():
            digest = hashes.SHA384() if vector["key_type"] == "p384" else hashes.SHA256()
            key.verify(signature, message, ec.ECDSA(digest))
        case rsa.RSAPublicKey():
            key.verify(signature, message, padding.PKCS1v15(), hashes.SHA256())
        case ed25519.Ed25519PublicKey():
            key.verify(signature, message)
        case _:
            raise TypeError(type(key))


def test_the_committed_vectors_are_what_their_generator_makes():
    assert (DIRECTORY / "renewal.json").read_text() == GENERATOR["vectors"]()


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["key_type"])
def test_the_service_checks_the_bytes_of_the_vectors(vector):
    message = proof_message(
        vector["trust_domain"], bytes.fromhex(vector["serial"]), bytes.fromhex(vector["new_spki"]), vector["nonce"]
    )
    assert message.hex() == vector["message"]
    verify(vector, bytes.fromhex(vector["signature"]))


@pytest.mark.parametrize("vector", TOUCHES, ids=lambda vector: vector["public_key"].split("@")[0])
def test_the_service_checks_the_touches_of_the_vectors_and_the_sdk_asks_for_them(vector):
    facts = {"serial": bytes.fromhex(vector["serial"]), "new_spki": bytes.fromhex(vector["new_spki"])}
    message = renewal_message(trust_domain=vector["trust_domain"], **facts, nonce=vector["nonce"])
    assert message.hex() == vector["message"]
    assert proof_message(vector["trust_domain"], *facts.values(), vector["nonce"]) == message
    key = read_operator_key(vector["public_key"], KnownKeys())
    assert verify_touch(bytes.fromhex(vector["signature"]), message, TOUCH_NAMESPACE, [key]) == key
    assert NAMESPACE == TOUCH_NAMESPACE


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["key_type"])
def test_the_sdk_signs_the_bytes_of_the_vectors(vector):
    signature = sign_renewal(
        GENERATOR["KEYS"][vector["key_type"]],
        trust_domain=vector["trust_domain"],
        serial=bytes.fromhex(vector["serial"]),
        new_spki=bytes.fromhex(vector["new_spki"]),
        nonce=vector["nonce"],
    )
    verify(vector, signature)
    if vector["key_type"] in {"ed25519", "rsa2048"}:
        assert signature.hex() == vector["signature"], "these have one signature for each message"


class Clock:
    seconds = 1_800_000_000

    def __call__(self):
        return self.seconds


def test_a_nonce_is_good_in_every_process_of_the_control_plane_for_five_minutes():
    clock = Clock()
    nonce = Nonces(b"k" * 32, clock).make("spiffe://a/b", SERIAL)
    other = Nonces(b"k" * 32, clock)
    for seconds in (0, 1, NONCE_LIFETIME):
        clock.seconds = 1_800_000_000 + seconds
        other.check(nonce, "spiffe://a/b", SERIAL)
    clock.seconds += 1
    with pytest.raises(RenewalProofInvalid, match="older"):
        other.check(nonce, "spiffe://a/b", SERIAL)


def test_a_replica_whose_clock_is_behind_takes_the_nonce_of_another():
    clock = Clock()
    nonce = Nonces(b"k" * 32, clock).make("spiffe://a/b", SERIAL)
    clock.seconds -= 20
    Nonces(b"k" * 32, clock).check(nonce, "spiffe://a/b", SERIAL)


@pytest.mark.parametrize("change", ["key", "caller", "serial", "time", "mac", "shape"])
def test_a_nonce_is_for_one_caller_and_certificate(change):
    nonces = Nonces(b"k" * 32, Clock())
    nonce, caller, serial = nonces.make("spiffe://a/b", SERIAL), "spiffe://a/b", SERIAL
    match change:
        case "key":
            nonces = Nonces(b"K" * 32, Clock())
        case "caller":
            caller = "spiffe://a/c"
        case "serial":
            serial = bytes(16)
        case "time":
            nonce = ("B" if nonce[6] == "A" else "A").join((nonce[:6], nonce[7:]))
        case "mac":
            nonce = ("B" if nonce[30] == "A" else "A").join((nonce[:30], nonce[31:]))
        case _:
            nonce = "no base64: \u00e9"
    with pytest.raises(RenewalProofInvalid):
        nonces.check(nonce, caller, serial)


@pytest.mark.parametrize("nonce", ["", "AAAA", "=", "A" * 100_000, "\0", "AAAAAAAAAAA="])
def test_what_is_no_nonce_is_refused(nonce):
    with pytest.raises(RenewalProofInvalid):
        Nonces(b"k" * 32, Clock()).check(nonce, "spiffe://a/b", SERIAL)
