"""Write enrollment.json, or compare it with `--check`: tokens and transcripts from their definition, without our code."""

import base64
import hashlib
import json
import sys
from pathlib import Path

TARGET = Path(__file__).with_name("enrollment.json")
DESCRIPTION = (
    "docs/protocols.md, enrollment. LP: each field after its length in 4 octets, big-endian. Times are 8 octets, big-endian. "
    "k_s, k_c, k_r = HKDF-SHA-256(secret, salt = id, info = 'keyreeve-enrol-1 s', '... c', '... r'), 32 octets; "
    "all byte strings in hexadecimal"
)


def hmac_sha256(key: bytes, message: bytes) -> bytes:
    """HMAC by its definition (RFC 2104)."""
    key = hashlib.sha256(key).digest() if len(key) > 64 else key
    block = key.ljust(64, b"\0")
    inner = hashlib.sha256(bytes(b ^ 0x36 for b in block) + message).digest()
    return hashlib.sha256(bytes(b ^ 0x5C for b in block) + inner).digest()


def hkdf(secret: bytes, salt: bytes, info: bytes) -> bytes:
    """The first 32 octets of HKDF-SHA-256 (RFC 5869): extract, and one step of expand."""
    return hmac_sha256(hmac_sha256(salt, secret), info + b"\x01")


def lp(*fields: bytes) -> bytes:
    """LP."""
    return b"".join(len(one).to_bytes(4, "big") + one for one in fields)


def time(seconds: int) -> bytes:
    """A time."""
    return seconds.to_bytes(8, "big")


def vector(number: int, trust_domain: str, path: str, address: str, *sent: bytes) -> object:
    """One token and one enrollment with it; what is sent is the trust root, then the chain."""
    trust_root, *chain = sent

    def some(name: str, size: int) -> bytes:
        return hashlib.shake_128(f"{number} {name}".encode()).digest(size)

    token_id, secret, root = some("id", 16), some("secret", 32), some("root", 32)
    expires, client_time, server_time = 1_800_003_600 + number, 1_800_000_000, 1_800_000_007
    name, server_name, release = f"spiffe://{trust_domain}/{path}", f"enroll.svc.{trust_domain}", "keyreeve/0.1.0"
    n_c, n_s, csr = some("n_c", 32), some("n_s", 32), some("csr", 200)
    body = lp(token_id, secret, root, time(expires), name.encode(), address.encode())
    check = hashlib.sha256(b"keyreeve-token-1" + body).digest()[:4]
    k_s, k_c, k_r = (hkdf(secret, token_id, b"keyreeve-enrol-1 " + letter) for letter in (b"s", b"c", b"r"))
    t1 = lp(
        b"keyreeve-enrol-1",
        trust_domain.encode(),
        root,
        server_name.encode(),
        token_id,
        n_c,
        time(client_time),
        release.encode(),
        n_s,
        time(server_time),
        name.encode(),
        hashlib.sha256(trust_root).digest(),
    )
    mac_s = hmac_sha256(k_s, t1)
    mac_c = hmac_sha256(k_c, lp(t1, mac_s, hashlib.sha256(csr).digest()))
    roots = [some("first root", 300), some("second root", 400)][:number]
    h_chain = hashlib.sha256(lp(*chain)).digest()
    mac_r = hmac_sha256(k_r, lp(t1, mac_c, h_chain, hashlib.sha256(trust_root).digest()))
    return {
        "trust_domain": trust_domain,
        "identity": name,
        "address": address,
        "id": token_id.hex(),
        "secret": secret.hex(),
        "root_sha256": root.hex(),
        "expires": expires,
        "token": "krt1_" + base64.urlsafe_b64encode(body + check).decode().rstrip("="),
        "k_s": k_s.hex(),
        "k_c": k_c.hex(),
        "k_r": k_r.hex(),
        "server_name": server_name,
        "n_c": n_c.hex(),
        "t_c": client_time,
        "release": release,
        "n_s": n_s.hex(),
        "t_s": server_time,
        "trust_root": trust_root.hex(),
        "t1": t1.hex(),
        "mac_s": mac_s.hex(),
        "csr": csr.hex(),
        "mac_c": mac_c.hex(),
        "chain": [one.hex() for one in chain],
        "mac_r": mac_r.hex(),
        "roots": [one.hex() for one in roots],
        "mac_roots": hmac_sha256(
            k_r, lp(b"keyreeve-enrol-roots-1", t1, mac_c, hashlib.sha256(lp(*roots)).digest())
        ).hex(),
    }


def vectors() -> str:
    """All vectors as the file's text."""
    found = [
        vector(1, "example.test", "members/web.example.test", "ca.example.test:7483", b"{}", b"leaf", b"issuing"),
        vector(2, "dev.localhost", "operators/admin/ann", "127.0.0.1:7483", b"root" * 500, b"\x30\x00"),
        vector(3, "corp", "services/membership/one", "[2001:db8::1]:443", b"", b"", b"a", b"\xff" * 700),
    ]
    return json.dumps({"description": DESCRIPTION, "vectors": found}, indent=1) + "\n"


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        sys.exit(0 if TARGET.read_text() == vectors() else f"{TARGET} differs from what its generator makes")
    TARGET.write_text(vectors())
