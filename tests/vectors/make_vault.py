"""Write vault.json, or compare it with `--check`: sealed values computed from their definition alone, without our code."""

import json
import sys
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

TARGET = Path(__file__).with_name("vault.json")
DESCRIPTION = (
    "AAD = LP('keyreeve-vault-1', td, array_uid, entry_uid, owner, resource, field, version, kek_id); "
    "field = nonce || AES-256-GCM(data key, plaintext, AAD); "
    "wrapped = nonce || AES-256-GCM(KEK, data key, LP(entry_uid, version, kek_id)); version in 8 octets, big-endian; "
    "random octets are taken in the order data key, a nonce for each field, the wrap's nonce; "
    "all byte strings in hexadecimal, except names"
)
PLACES = (
    ("example.test", "sales", "00" * 16, ".../_ens/o=Indigo/cn=Bill", ".../_dns/prague.example.com", 1),
    ("example.test", "sales", "0f" * 16, "anonymous", "", 2),
    ("other.test", "s", "ff" * 16, ".../_ens/o=Indigo/cn=J\u00f6rg", ".../_wns/INDIGO", 2**40),
)


def lp(*fields: bytes) -> bytes:
    """Length-prefixed fields."""
    return b"".join(len(field).to_bytes(4, "big") + field for field in fields)


def octets(seed: int, count: int) -> bytes:
    """Octets that stand for random ones."""
    return bytes((seed + at) % 256 for at in range(count))


def vector(number: int, place: tuple[str, str, str, str, str, int], fields: dict[str, str]) -> dict[str, object]:
    """One vector with its intermediate values."""
    td, array, entry, owner, resource, version = place
    kek_id, kek, data_key = f"{number:032x}", octets(number, 32), octets(100 + number, 32)
    counted = version.to_bytes(8, "big")
    drawn, sealed, associated = [data_key], {}, {}
    for name, text in fields.items():
        nonce = octets(150 + len(drawn), 12)
        drawn.append(nonce)
        names = (td, array, entry, owner, resource, name)
        aad = lp(b"keyreeve-vault-1", *(each.encode() for each in names), counted, kek_id.encode())
        associated[name] = aad.hex()
        sealed[name] = (nonce + AESGCM(data_key).encrypt(nonce, text.encode(), aad)).hex()
    nonce = octets(200, 12)
    drawn.append(nonce)
    wrap = lp(entry.encode(), counted, kek_id.encode())
    return {
        "trust_domain": td,
        "array_uid": array,
        "entry_uid": entry,
        "owner": owner,
        "resource": resource,
        "version": version,
        "kek_id": kek_id,
        "kek": kek.hex(),
        "random": [each.hex() for each in drawn],
        "fields": fields,
        "associated_data": associated,
        "wrap_data": wrap.hex(),
        "sealed": sealed,
        "wrapped_key": (nonce + AESGCM(kek).encrypt(nonce, data_key, wrap)).hex(),
    }


def vectors() -> str:
    """All vectors as the file's text."""
    values = ({"user_name": "bill", "password": "s3cret"}, {"user_name": "Jo\u0308", "smart_card": ""})
    found = [vector(3 * i + j, place, fields) for i, fields in enumerate(values) for j, place in enumerate(PLACES)]
    return json.dumps({"description": DESCRIPTION, "vectors": found}, indent=1) + "\n"


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        sys.exit(0 if TARGET.read_text() == vectors() else f"{TARGET} differs from what its generator makes")
    TARGET.write_text(vectors())
