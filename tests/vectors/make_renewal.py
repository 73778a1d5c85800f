"""Write renewal.json, or compare it with `--check`: what the old key, or a device, signs in a renewal, from the definition.

The keys are fixed and of no use to anyone. ECDSA signatures are deterministic here (RFC 6979) so that the file is; any
other valid one is as good.
"""

import base64
import hashlib
import json
import sys
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

TARGET = Path(__file__).with_name("renewal.json")
DESCRIPTION = (
    'message = LP("keyreeve-renew-1", trust_domain, serial, SHA-256(new_spki), nonce), each field preceded by its length '
    "in 4 octets, big-endian; signature by the old key: ECDSA with SHA-256 (SHA-384 for P-384) in DER, RSA PKCS #1 v1.5 "
    "with SHA-256, or Ed25519; all byte strings in hexadecimal"
)
TOUCHES = (
    "the same message signed by a key in a device, whose public key is one line of OpenSSH's: signature is an SSHSIG without "
    'armor (PROTOCOL.sshsig) for the namespace "keyreeve-renew-1", of the device\'s kind (PROTOCOL.u2f), touched'
)
_P = int(
    "e9363a76addad298615f03f2257ecac5ca43fc2629be3936dd1349fc11cf20ef481ba71619728c13b0a0987011a3d98d"
    "1aa02cb7b245722771bee2b544a600aa5ae56c2a860349afc5dde44dd586cec2bd63e98c229c88a53139884962f7b3f1"
    "69fe38e62b845dcbd5fc29d0fb362a9c797726907af35150a1e3c8ec0cae0d73",
    16,
)
_Q = int(
    "bc5496a8b91e86a91062d371a6be3366badd364dd8b9b9cdb0f6ab817dcae1ed05cc28fc022bf3cf2b2fb7024cfdfae8"
    "8a7f360b1a4490f6c82411d29e597af7fa1296c6eca48b51f4d82a2c0bc5f5ca904ff5841185f0291b5d7fbb1ab83f60"
    "99709808b92952ca91fa7bfed0b92fc6a0ffb21e054be902b4228b9529d61fbd",
    16,
)


def _rsa_key() -> rsa.RSAPrivateKey:
    d = pow(65537, -1, (_P - 1) * (_Q - 1))
    public = rsa.RSAPublicNumbers(65537, _P * _Q)
    numbers = rsa.RSAPrivateNumbers(_P, _Q, d, d % (_P - 1), d % (_Q - 1), pow(_Q, -1, _P), public)
    return numbers.private_key()


KEYS = {
    "p256": ec.derive_private_key(0x1234567, ec.SECP256R1()),
    "p384": ec.derive_private_key(0x7654321, ec.SECP384R1()),
    "rsa2048": _rsa_key(),
    "ed25519": ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32))),
}
NEW_KEY = ec.derive_private_key(0xABCDEF, ec.SECP256R1())


def spki(key: object) -> bytes:
    """The DER SubjectPublicKeyInfo of a private key's public half."""
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def message(trust_domain: str, serial: bytes, new_spki: bytes, nonce: str) -> bytes:
    """The bytes that are signed."""
    fields = [b"keyreeve-renew-1", trust_domain.encode(), serial, hashlib.sha256(new_spki).digest(), nonce.encode()]
    return b"".join(len(field).to_bytes(4, "big") + field for field in fields)


def sign(key: object, text: bytes) -> bytes:
    """The old key's signature."""
    match key:
        case ec.EllipticCurvePrivateKey():
            digest = hashes.SHA384() if isinstance(key.curve, ec.SECP384R1) else hashes.SHA256()
            return key.sign(text, ec.ECDSA(digest, deterministic_signing=True))
        case rsa.RSAPrivateKey():
            return key.sign(text, padding.PKCS1v15(), hashes.SHA256())
    return key.sign(text)


def vectors() -> str:
    """All vectors as the file's text."""
    found = []
    for number, (key_type, key) in enumerate(KEYS.items()):
        trust_domain, serial = ("example.test", "a.b.example")[number % 2], bytes([0x40 + number, *range(15)])
        nonce = f"nonce-{number}_=="
        text = message(trust_domain, serial, spki(NEW_KEY), nonce)
        found.append(
            {
                "key_type": key_type,
                "old_spki": spki(key).hex(),
                "trust_domain": trust_domain,
                "serial": serial.hex(),
                "new_spki": spki(NEW_KEY).hex(),
                "nonce": nonce,
                "message": text.hex(),
                "signature": sign(key, text).hex(),
            }
        )
    return json.dumps({"description": DESCRIPTION, "vectors": found, "touches": touches()}, indent=1) + "\n"


def packed(*fields: bytes) -> bytes:
    """Each field behind its length: what the message is made of is SSH's `string`, too."""
    return b"".join(len(field).to_bytes(4, "big") + field for field in fields)


def touches() -> dict[str, object]:
    """What a device of each kind signs."""
    found = []
    for number, kind in enumerate(("ed25519", "p256")):
        key, nonce = KEYS[kind], f"nonce-{number}_=="
        text = message("example.test", bytes([0x40, *range(15)]), spki(NEW_KEY), nonce)
        if kind == "ed25519":
            algorithm = b"sk-ssh-ed25519@openssh.com"
            point = [key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)]
        else:
            algorithm = b"sk-ecdsa-sha2-nistp256@openssh.com"
            point = [b"nistp256", key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)]
        public, about = packed(algorithm, *point, b"ssh:"), [b"keyreeve-renew-1", b"", b"sha512"]
        flags_and_counter = b"\x01" + (5).to_bytes(4, "big")
        asked = b"SSHSIG" + packed(*about, hashlib.sha512(text).digest())
        made = sign(key, hashlib.sha256(b"ssh:").digest() + flags_and_counter + hashlib.sha256(asked).digest())
        if kind == "p256":
            made = packed(*(n.to_bytes(n.bit_length() // 8 + 1, "big") for n in decode_dss_signature(made)))
        signature = packed(algorithm, made) + flags_and_counter
        found.append(
            {
                "public_key": f"{algorithm.decode()} {base64.b64encode(public).decode()}",
                "trust_domain": "example.test",
                "serial": bytes([0x40, *range(15)]).hex(),
                "new_spki": spki(NEW_KEY).hex(),
                "nonce": nonce,
                "message": text.hex(),
                "signature": (b"SSHSIG" + (1).to_bytes(4, "big") + packed(public, *about, signature)).hex(),
            }
        )
    return {"description": TOUCHES, "vectors": found}


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        sys.exit(0 if TARGET.read_text() == vectors() else f"{TARGET} differs from what its generator makes")
    TARGET.write_text(vectors())
