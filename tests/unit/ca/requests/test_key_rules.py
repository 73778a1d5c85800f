"""Key rules: accepted keys, refused keys with reasons, and the cost of the checks."""

import time
from hashlib import sha256
from math import gcd, isqrt, prod

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from keyreeve.errors import CsrMalformed, KeyBlocked, KeyTypeRefused, KeyWeak
from keyreeve_ca.requests import key_rules as keys
from keyreeve_ca.requests.key_rules import KnownKeys, check_key, classify_key, load_key
from keyreeve_chassis.keys.key_types import KeyType
from support.csr_writer import (
    close_primes_modulus,
    ec_key,
    modulus_without_small_factors,
    roca_modulus,
    rsa_key,
    rsa_spki,
    spki_of,
)
from support.rsa_keys import shared_rsa_key


def spki(key):
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def check(der: bytes, known: KnownKeys | None = None) -> None:
    check_key(der, sha256(der).digest(), classify_key(der), known or KnownKeys())


GOOD = {
    KeyType.P256: lambda: ec.derive_private_key(11, ec.SECP256R1()),
    KeyType.P384: lambda: ec.derive_private_key(11, ec.SECP384R1()),
    KeyType.ED25519: lambda: ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32))),
    KeyType.RSA2048: rsa_key,
    KeyType.RSA3072: lambda: shared_rsa_key(3072),
}


@pytest.mark.parametrize("key_type", GOOD)
def test_a_good_key_of_each_type_is_classified_loaded_and_passes(key_type):
    der = spki(GOOD[key_type]())
    assert classify_key(der) is key_type
    check(der)
    assert load_key(der).public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) == der


def test_an_rsa_modulus_of_4096_bits_is_classified():
    assert classify_key(rsa_spki(modulus_without_small_factors(4096))) is KeyType.RSA4096


def test_every_change_of_one_octet_of_a_header_is_refused_before_the_key_is_loaded():
    der = spki(ec_key())
    for at in range(27):
        for bit in range(8):
            changed = der[:at] + bytes((der[at] ^ 1 << bit,)) + der[at + 1 :]
            with pytest.raises((CsrMalformed, KeyTypeRefused, KeyWeak)):
                classify_key(changed)


def test_a_key_cut_off_anywhere_is_refused():
    for der in (spki(ec_key()), spki(rsa_key())):
        for size in range(len(der)):
            with pytest.raises((CsrMalformed, KeyTypeRefused, KeyWeak)):
                classify_key(der[:size])


def test_the_cas_own_key_and_a_blocked_key_are_refused_by_hash():
    der = spki(ec_key())
    digest = frozenset({sha256(der).digest()})
    with pytest.raises(KeyBlocked, match="CA's own"):
        check(der, KnownKeys(own=digest))
    with pytest.raises(KeyBlocked, match="compromised"):
        check(der, KnownKeys(blocked=digest))
    check(spki(ec_key(8)), KnownKeys(own=digest, blocked=digest))


@pytest.mark.parametrize(
    ("modulus", "why"),
    [
        (modulus_without_small_factors(2048) - 1, "below 1,000"),
        (close_primes_modulus(), "too close"),
        (roca_modulus(), "ROCA"),
    ],
    ids=["even", "close primes", "ROCA"],
)
def test_a_breakable_modulus_is_refused_by_the_name_of_its_weakness(modulus, why):
    with pytest.raises(KeyWeak, match=why):
        check(rsa_spki(modulus))


@pytest.mark.parametrize(("beyond_the_root", "found"), [(0, True), (98, True), (102, False)])
def test_close_primes_are_found_as_far_as_a_hundred_rounds_of_fermat_reach(beyond_the_root, found):
    # n = a^2 - b^2 is found when the search, from the root of n upwards, reaches a; b^2 = 2 * a * k puts it k further up.
    a = (1 << 1023) + (1 << 1022) + 1
    b = isqrt(2 * a * beyond_the_root) & ~1
    n = (a - b) * (a + b)
    if found:
        with pytest.raises(KeyWeak, match="Fermat"):
            keys._check_fermat(n)
    else:
        keys._check_fermat(n)


def test_sound_moduli_do_not_have_the_roca_fingerprint():
    # A random modulus has it with a chance below 2^-24: the product of the shares of residues that are powers of 65537.
    share = prod((len(powers) / (prime - 1) for prime, powers in keys._ROCA), start=1.0)
    assert share < 2**-24
    assert gcd(keys._ROCA_PRODUCT, 65537) == 1


def test_the_points_of_order_8_are_roots_of_their_polynomial():
    # Doubling a point with d*y^4 + 2*y^2 - 1 = 0 on the curve gives y = 0, which is of order 4 (RFC 8032, section 5.1).
    p = keys._ED25519_PRIME
    d = -121665 * pow(121666, -1, p) % p
    for y in (keys._ORDER_8, p - keys._ORDER_8):
        assert (d * y**4 + 2 * y**2 - 1) % p == 0


def test_the_checks_of_a_key_cost_less_than_five_milliseconds():
    # The RSA key that gets through every check is the dearest one.
    der = rsa_spki(modulus_without_small_factors(4096))
    best = min(_cost(der) for _ in range(5))
    assert best < 0.005


def _cost(der: bytes) -> float:
    before = time.process_time()
    check(der)
    return time.process_time() - before


def test_a_panic_in_the_library_becomes_a_refusal_and_nothing_else_does(monkeypatch):
    class PanicException(BaseException):
        pass

    def panic(_):
        raise PanicException("index out of bounds")

    monkeypatch.setattr(keys, "load_der_public_key", panic)
    with pytest.raises(CsrMalformed):
        load_key(spki(ec_key()))

    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(keys, "load_der_public_key", interrupt)
    with pytest.raises(KeyboardInterrupt):
        load_key(spki(ec_key()))


def test_a_corpus_key_is_what_the_library_encodes():
    assert spki_of(ec_key()) == spki(ec_key())
