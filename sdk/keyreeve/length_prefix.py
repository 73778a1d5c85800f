"""LP, the length-prefixed encoding of signed messages (docs/protocols.md).

No two lists of fields have the same bytes, so a boundary between two fields cannot be moved under a signature. Imports
only the standard library.
"""


def length_prefixed(*fields: bytes) -> bytes:
    """Encode fields: the length of each in 4 octets, big-endian, then its bytes."""
    return b"".join([part for field in fields for part in (len(field).to_bytes(4, "big"), field)])


def split_fields(data: bytes) -> list[bytes]:
    """Decode fields. Raises `ValueError` when the last one is cut off."""
    found = []
    at, end = 0, len(data)
    while at < end:
        start = at + 4
        at = start + int.from_bytes(data[at:start], "big")
        if start > end or at > end:
            raise ValueError("a field is cut off")
        found.append(data[start:at])
    return found
