"""Write revocation_updates.json, or compare it with `--check`: what updates are signed over, without our code."""

import hashlib
import json
import struct
import sys
from pathlib import Path

TARGET = Path(__file__).with_name("revocation_updates.json")
DESCRIPTION = (
    "message = LP('keyreeve-revocations-1', trust domain, restore_generation, after_seq, seq, time, SHA-256(entries)); LP: each "
    "field after its length as 4 octets; numbers as 8 octets; entries: serial number (16 octets) and last instant (8 "
    "octets) of each certificate, one after the other; all big-endian; byte strings in hexadecimal"
)


def vector(
    trust_domain: str, numbers: tuple[int, int, int, int], revoked: list[tuple[bytes, int]]
) -> dict[str, object]:
    """One vector with its intermediate value."""
    entries = hashlib.sha256()
    for serial, not_after in revoked:
        entries.update(struct.pack(">16sQ", serial, not_after))
    fields = [
        b"keyreeve-revocations-1",
        trust_domain.encode(),
        *(struct.pack(">Q", n) for n in numbers),
        entries.digest(),
    ]
    restore_generation, after_seq, seq, time = numbers
    return {
        "trust_domain": trust_domain,
        "restore_generation": restore_generation,
        "after_seq": after_seq,
        "seq": seq,
        "time": time,
        "revoked": [{"serial": serial.hex(), "not_after": not_after} for serial, not_after in revoked],
        "entries_sha256": entries.hexdigest(),
        "message": b"".join(struct.pack(">I", len(one)) + one for one in fields).hex(),
    }


def vectors() -> str:
    """All vectors as the file's text."""
    one, two = (bytes([0x40]) + bytes(14) + bytes([n]) for n in (1, 2))
    found = [
        vector("example.test", (1, 0, 0, 1_800_000_000), []),
        vector("example.test", (1, 0, 2, 1_800_000_000), [(one, 1_800_086_400), (two, 1_800_000_001)]),
        vector("a.b.example", (2**40, 7, 9, 4_102_444_800), [(two, 2**40)]),
    ]
    return json.dumps({"description": DESCRIPTION, "vectors": found}, indent=1) + "\n"


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        sys.exit(0 if TARGET.read_text() == vectors() else f"{TARGET} differs from what its generator makes")
    TARGET.write_text(vectors())
