"""Writes audit.json: records, links, trees and checkpoints of the audit log. Shares no code with the package.

`--check` compares with what is committed.
"""

import hashlib
import json
import struct
import sys
from pathlib import Path

TARGET = Path(__file__).with_name("audit.json")
DESCRIPTION = (
    "docs/protocols.md, section Audit. Bytes are hex, numbers are numbers, times are milliseconds since 1970."
    " A proof lists hashes from the leaves upwards (RFC 6962, 2.1.1 and 2.1.2)."
)
CHAINS = (bytes(range(16)), bytes(range(16, 32)))


def h(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def fields(parts: list[bytes]) -> bytes:
    out = b""
    for part in parts:
        out += struct.pack(">I", len(part)) + part
    return out


def number(value: int) -> bytes:
    return struct.pack(">Q", value)


def tree(leaves: list[bytes]) -> bytes:
    """MTH of RFC 6962, 2.1, as it is written there, over hashed leaves."""
    if not leaves:
        return h()
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return h(b"\x01", tree(leaves[:k]), tree(leaves[k:]))


def path(m: int, leaves: list[bytes]) -> list[bytes]:
    """PATH of RFC 6962, 2.1.1."""
    if len(leaves) == 1:
        return []
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    if m < k:
        return [*path(m, leaves[:k]), tree(leaves[k:])]
    return [*path(m - k, leaves[k:]), tree(leaves[:k])]


def subproof(m: int, leaves: list[bytes], whole: bool) -> list[bytes]:
    """SUBPROOF of RFC 6962, 2.1.2."""
    if m == len(leaves):
        return [] if whole else [tree(leaves)]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    if m <= k:
        return [*subproof(m, leaves[:k], whole), tree(leaves[k:])]
    return [*subproof(m - k, leaves[k:], False), tree(leaves[:k])]


def record(i: int) -> dict[str, object]:
    refused = i % 2 == 1
    return {
        "method": "/keyreeve.ca.v1.CertificateService/SignCertificate" if i else "",
        "caller": "spiffe://example.test/operators/admin/ann" if i else "",
        "credential": "4d2" if i else "",
        "subject": "spiffe://example.test/operators/operator/böb" if i == 2 else "",
        "peer": "ipv4:127.0.0.1:51734" if i else "ipv4:192.0.2.1",
        "tls": "TLSv1.3" if i else "",
        "time": 1_767_225_600_123 + i,
        "request_id": "0192f0c0-0000-7000-8000-00000000000" + str(i) if i else "",
        "call_id": "call-000" + str(i) if i else "",
        "targets": [["item.profile", "profiles/server"], ["name", "certificates/ab"]][:i],
        "code": "PERMISSION_DENIED" if refused else "OK",
        "reason": "PROFILE_NOT_ALLOWED" if refused else "",
        "results": [] if refused else [["certificate", "certificates/0" + str(i)]],
        "calls": 1 if i else 17,
    }


def encode(values: dict) -> bytes:
    def pairs(of: list) -> bytes:
        return fields([text.encode() for pair in of for text in pair])

    head = [b"keyreeve-audit-record-1"]
    head += [values[name].encode() for name in ("method", "caller", "credential", "subject", "peer", "tls")]
    head += [number(values["time"]), values["request_id"].encode(), values["call_id"].encode()]
    head += [pairs(values["targets"])]
    tail = [values["code"].encode(), values["reason"].encode(), pairs(values["results"]), number(values["calls"])]
    return fields(head) + fields(tail)


def vectors() -> str:
    records = []
    for i in range(4):
        values = record(i)
        body = encode(values)
        records.append({**values, "record": body.hex(), "leaf": h(b"\x00", body).hex()})
    bodies = [bytes.fromhex(r["record"]) for r in records]
    chains, links, heads = [], [], {}
    for at, chain in enumerate(CHAINS):
        writer, registered = f"ca-0/worker-{at}", 1_767_225_600_000 + at
        genesis = h(
            b"\x02",
            fields([b"keyreeve-audit-chain-1", chain, number(1), writer.encode(), number(registered)]),
        )
        chains.append(
            {
                "chain": chain.hex(),
                "restore_generation": 1,
                "writer": writer,
                "registered": registered,
                "genesis": genesis.hex(),
            }
        )
        previous = genesis
        for n in range(1, 4 + at):
            group = bodies[: 1 + (n + at) % 4]
            leaves = [h(b"\x00", body) for body in group]
            db_time = 1_767_225_601_000 + n
            made = h(
                b"\x01",
                fields([chain, number(n), previous, number(len(leaves)), tree(leaves), number(db_time)]),
            )
            links.append(
                {
                    "chain": chain.hex(),
                    "n": n,
                    "previous": previous.hex(),
                    "records": len(leaves),
                    "merkle_root": tree(leaves).hex(),
                    "db_time": db_time,
                    "link": made.hex(),
                }
            )
            previous = made
        heads[chain] = (3 + at, previous, "closed" if at else "open")
    leaves = [h(b"\x00", bytes.fromhex(link["link"])) for link in links]
    first = checkpoint(1, bytes(32), 2, tree(leaves[:2]), {CHAINS[0]: (2, bytes.fromhex(links[1]["link"]), "open")})
    second = checkpoint(2, h(bytes.fromhex(first["body"])), len(leaves), tree(leaves), heads)
    proofs = [
        {"old": m, "new": n, "old_root": tree(leaves[:m]).hex(), "new_root": tree(leaves[:n]).hex()}
        | {"proof": [p.hex() for p in subproof(m, leaves[:n], True)]}
        for n in range(1, len(leaves) + 1)
        for m in range(1, n + 1)
    ]
    paths = [
        {"index": m, "size": n, "leaf": leaves[m].hex(), "root": tree(leaves[:n]).hex()}
        | {"path": [p.hex() for p in path(m, leaves[:n])]}
        for n in range(1, len(leaves) + 1)
        for m in range(n)
    ]
    document = {
        "description": DESCRIPTION,
        "records": records,
        "chains": chains,
        "links": links,
        "checkpoints": [first, second],
        "consistency": proofs,
        "inclusion": paths,
    }
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def checkpoint(k: int, previous: bytes, size: int, root: bytes, heads: dict) -> dict[str, object]:
    told = [[chain.hex(), n, link.hex(), state] for chain, (n, link, state) in sorted(heads.items())]
    packed = fields(
        [fields([chain, number(n), link, state.encode()]) for chain, (n, link, state) in sorted(heads.items())]
    )
    time, horizon = 1_767_225_602_000 + k, 1_700_000_000_000
    parts = [b"keyreeve-audit-checkpoint-1", number(k), previous, number(1), number(time), number(horizon)]
    body = fields([*parts, number(size), root, packed])
    return {
        "k": k,
        "previous": previous.hex(),
        "restore_generation": 1,
        "time": time,
        "horizon": horizon,
        "size": size,
        "root": root.hex(),
        "heads": told,
        "body": body.hex(),
        "digest": h(body).hex(),
    }


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        sys.exit(0 if TARGET.read_text() == vectors() else f"{TARGET} differs from what its generator makes")
    TARGET.write_text(vectors())
