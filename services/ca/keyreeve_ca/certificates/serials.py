"""Serial numbers: every one belongs to a recorded block, and none can be guessed before it is used.

    serial  = 0b01 || block_id (46 bits) || tag (80 bits)                  16 octets, big-endian
    tag     = the first 10 octets of HMAC-SHA256(key = seed, message = counter as 8 octets, big-endian)

The leading 01 makes the number positive and its DER encoding exactly 16 octets long (RFC 5280, 4.1.2.2: positive, at
most 20 octets). Block numbers grow with time, so that new rows land at the end of the ledger's index. The 80 bits are
more than the 64 unpredictable ones that the CA/Browser Forum's requirements ask for; the block's seed is recorded
(sealed), so a serial that was signed and lost in a crash can be computed again and revoked.

tests/vectors/serials.json holds test vectors.
"""

import hmac

SERIAL_BYTES = 16
SEED_BYTES = 32
MAX_BLOCK_ID = (1 << 46) - 1
_LEADING_01 = 1 << 46
_TAG_BYTES = 10


def serial(block_id: int, seed: bytes, counter: int) -> bytes:
    """Return serial number `counter` (from 0) of a block as 16 octets.

    Raises ValueError when an argument is out of range.
    """
    if not 0 <= block_id <= MAX_BLOCK_ID:
        raise ValueError(f"block {block_id} does not fit in 46 bits")
    if len(seed) != SEED_BYTES:
        raise ValueError(f"a block's seed has {SEED_BYTES} bytes, not {len(seed)}")
    if counter < 0:
        raise ValueError("counters begin at 0")
    tag = hmac.digest(seed, counter.to_bytes(8, "big"), "sha256")[:_TAG_BYTES]
    return (_LEADING_01 | block_id).to_bytes(6, "big") + tag


def block_of(number: bytes) -> int:
    """Return the block of a serial number.

    Raises ValueError when the serial number does not have our form.
    """
    if len(number) != SERIAL_BYTES or number[0] >> 6 != 0b01:
        raise ValueError("not a serial number of this CA: it needs 16 octets that begin with the bits 01")
    return int.from_bytes(number[:6], "big") & MAX_BLOCK_ID
