"""Write caller_updates.json, or compare it with `--check`: what updates are signed over, without our code."""

import hashlib
import json
import struct
import sys
from pathlib import Path
from typing import Any

TARGET = Path(__file__).with_name("caller_updates.json")
DESCRIPTION = (
    "message = LP('keyreeve-callers-1', trust domain, restore_generation, after_seq, seq, head_seq, time, "
    "SHA-256(LP(authorities)), SHA-256(LP(operators)), SHA-256(LP(revoked)), and if there are any SHA-256(LP(members))); "
    "a member is LP(member_uid, identity, array, state, 1 octet: 1 when primary, 1 octet: 1 when removed); "
    "LP: each field after its length as 4 octets; "
    "an authority is LP(name, state, certificate), an operator LP(name, person_uid, role, since, 1 octet: 1 when removed), "
    "a revoked certificate LP(serial number of 16 octets, last instant); numbers as 8 octets; all big-endian; byte strings "
    "in hexadecimal"
)


def lp(*fields: bytes) -> bytes:
    return b"".join(struct.pack(">I", len(one)) + one for one in fields)


def number(value: int) -> bytes:
    return struct.pack(">Q", value)


def vector(
    trust_domain: str, numbers: tuple[int, int, int, int, int], **entries: list[dict[str, Any]]
) -> dict[str, Any]:
    """One vector with its intermediate values."""
    authorities, operators, revoked = (entries.get(kind, []) for kind in ("authorities", "operators", "revoked"))
    digests = [
        hashlib.sha256(lp(*parts)).digest()
        for parts in (
            [lp(a["name"].encode(), a["state"].encode(), bytes.fromhex(a["certificate"])) for a in authorities],
            [
                lp(
                    o["name"].encode(),
                    o["person_uid"].encode(),
                    o["role"].encode(),
                    number(o["since"]),
                    bytes([o["removed"]]),
                )
                for o in operators
            ],
            [lp(bytes.fromhex(r["serial"]), number(r["not_after"])) for r in revoked],
        )
    ]
    members = entries.get("members", [])
    if members:
        flags = [bytes([m["primary"]]) + bytes([m["removed"]]) for m in members]
        texts = [[m[name].encode() for name in ("member_uid", "identity", "array", "state")] for m in members]
        parts = [lp(*text, flag[:1], flag[1:]) for text, flag in zip(texts, flags, strict=True)]
        digests.append(hashlib.sha256(lp(*parts)).digest())
    names = ("restore_generation", "after_seq", "seq", "head_seq", "time")
    return {
        "trust_domain": trust_domain,
        **dict(zip(names, numbers, strict=True)),
        "authorities": authorities,
        "operators": operators,
        "revoked": revoked,
        **({"members": members} if members else {}),
        "digests": [one.hex() for one in digests],
        "message": lp(b"keyreeve-callers-1", trust_domain.encode(), *(number(one) for one in numbers), *digests).hex(),
    }


def vectors() -> str:
    """All vectors as the file's text."""
    one, two = (
        {"serial": (bytes([0x40]) + bytes(14) + bytes([n])).hex(), "not_after": end}
        for n, end in ((1, 1_800_086_400), (2, 2**40))
    )
    ann = {
        "name": "operators/ann",
        "person_uid": "0192",
        "role": "admin",
        "since": 1_800_000_000,
        "removed": False,
    }
    issuing = {"name": "authorities/control-issuing-1", "state": "active", "certificate": "3082"}
    found = [
        vector("example.test", (1, 0, 0, 0, 1_800_000_000)),
        vector(
            "example.test",
            (1, 0, 4, 9, 1_800_000_000),
            authorities=[issuing, {**issuing, "name": "authorities/control-issuing-2", "state": "pending"}],
            operators=[ann],
            revoked=[one],
        ),
        vector(
            "a.b.example",
            (2**40, 7, 9, 9, 4_102_444_800),
            operators=[{**ann, "role": "auditor", "removed": True}],
            revoked=[two, one],
        ),
        vector(
            "example.test",
            (1, 9, 11, 11, 1_800_000_000),
            members=[
                {
                    "member_uid": "0193",
                    "identity": "spiffe://example.test/members/web.example.test",
                    "array": "arrays/one",
                    "state": "member",
                    "primary": True,
                    "removed": False,
                },
                {
                    "member_uid": "0194",
                    "identity": "spiffe://example.test/members/db.example.test",
                    "array": "arrays/one",
                    "state": "detached",
                    "primary": False,
                    "removed": True,
                },
            ],
        ),
    ]
    return json.dumps({"description": DESCRIPTION, "vectors": found}, indent=1) + "\n"


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        sys.exit(0 if TARGET.read_text() == vectors() else f"{TARGET} differs from what its generator makes")
    TARGET.write_text(vectors())
