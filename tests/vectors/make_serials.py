"""Write serials.json, or compare it with `--check`: serial numbers computed from their definition alone, without our code."""

import hashlib
import json
import sys
from pathlib import Path

TARGET = Path(__file__).with_name("serials.json")
DESCRIPTION = (
    "serial = 0b01 || block_id (46 bits) || first 80 bits of HMAC-SHA256(seed, counter as 8 octets, big-endian); "
    "all byte strings in hexadecimal"
)


def hmac_sha256(key: bytes, message: bytes) -> bytes:
    """HMAC by its definition (RFC 2104)."""
    block = key.ljust(64, b"\0")
    inner = hashlib.sha256(bytes(b ^ 0x36 for b in block) + message).digest()
    return hashlib.sha256(bytes(b ^ 0x5C for b in block) + inner).digest()


def vector(block_id: int, seed: bytes, counter: int) -> dict[str, object]:
    """One vector with its intermediate values."""
    mac = hmac_sha256(seed, counter.to_bytes(8, "big"))
    number = (0b01 << 126) | (block_id << 80) | int.from_bytes(mac[:10], "big")
    return {
        "block_id": block_id,
        "seed": seed.hex(),
        "counter": counter,
        "hmac": mac.hex(),
        "serial": number.to_bytes(16, "big").hex(),
    }


def vectors() -> str:
    """All vectors as the file's text."""
    seeds = (bytes(32), bytes(range(32)), b"\xff" * 32)
    blocks = (0, 1, 1_800_000_000_000, (1 << 46) - 1)
    found = [vector(block, seed, counter) for seed in seeds for block in blocks for counter in (0, 1, 4095)]
    return json.dumps({"description": DESCRIPTION, "vectors": found}, indent=1) + "\n"


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        sys.exit(0 if TARGET.read_text() == vectors() else f"{TARGET} differs from what its generator makes")
    TARGET.write_text(vectors())
