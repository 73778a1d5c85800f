"""Constructions of the audit log: chains of links, and signed checkpoints.

    leaf       = H(0 || record)
    genesis    = H(2 || LP("keyreeve-audit-chain-1", chain, restore_generation, writer, registered))
    link       = H(1 || LP(chain, n, previous, count, merkle_root, db_time))      n counts from 1, previous of 1 is genesis
    checkpoint = LP("keyreeve-audit-checkpoint-1", k, previous, restore_generation, time, horizon, size, root, heads)
    heads      = LP(LP(chain, n, link, state), ...) in the order of the chains

Each process that writes has one chain, each commit is one link, and `merkle_root` is the RFC 6962 root over the commit's
records. A checkpoint orders the new links (by chain, then by n) behind all earlier ones; `root` and `size` are those of
the RFC 6962 tree over all links, and `previous` is the SHA-256 of the checkpoint before it. Times are milliseconds since
1970. Imports only the standard library and modules of this package.
"""

from collections.abc import Sequence
from enum import StrEnum
from hashlib import sha256
from typing import NamedTuple, Self

from keyreeve.audit.merkle import root_of
from keyreeve.audit.record import RecordInvalid, split_fields, u64
from keyreeve.length_prefix import length_prefixed

CHAIN_BYTES = 16
HASH_BYTES = 32
NO_HASH = bytes(HASH_BYTES)
"""`previous` of the first checkpoint."""
_CHAIN = b"keyreeve-audit-chain-1"
_CHECKPOINT = b"keyreeve-audit-checkpoint-1"


class ChainState(StrEnum):
    """The states of a chain."""

    OPEN = "open"
    CLOSED = "closed"
    ABANDONED = "abandoned"


class Registration(NamedTuple):
    """The record of a chain before its first link."""

    chain: bytes
    """16 octets."""
    restore_generation: int
    writer: str
    """The process, such as `ca-0/worker-1/UUID`."""
    registered: int

    def genesis(self) -> bytes:
        """The hash that the first link refers to."""
        return sha256(
            b"\2"
            + length_prefixed(
                _CHAIN, self.chain, u64(self.restore_generation), self.writer.encode(), u64(self.registered)
            )
        ).digest()


class Head(NamedTuple):
    """The last link of a chain."""

    chain: bytes
    n: int
    link: bytes
    state: ChainState


class Link(NamedTuple):
    """One commit: the hashes of its records, and the records unless they were purged."""

    chain: bytes
    n: int
    db_time: int
    leaves: bytes
    """32 octets for each record."""
    bodies: bytes | None
    """LP of the records."""
    link: bytes


class Checkpoint(NamedTuple):
    """What the leader signs each second in which there were new commits."""

    k: int
    previous: bytes
    restore_generation: int
    time: int
    horizon: int
    """Records committed before this time may have been purged."""
    size: int
    root: bytes
    heads: tuple[Head, ...]
    """Every chain that was open at the previous checkpoint, and those that began since."""

    def encode(self) -> bytes:
        """Encode the signed bytes."""
        heads = length_prefixed(*(length_prefixed(h.chain, u64(h.n), h.link, h.state.encode()) for h in self.heads))
        return length_prefixed(
            _CHECKPOINT,
            u64(self.k),
            self.previous,
            *(u64(n) for n in (self.restore_generation, self.time, self.horizon, self.size)),
            self.root,
            heads,
        )

    @classmethod
    def decode(cls, body: bytes) -> Self:
        """Decode the signed bytes. Raises `RecordInvalid`."""
        fields = split_fields(body)
        if len(fields) != 9 or fields[0] != _CHECKPOINT:
            raise RecordInvalid("not a checkpoint of version 1")
        k, restore_generation, time, horizon, size = (int.from_bytes(fields[i], "big") for i in (1, 3, 4, 5, 6))
        heads = tuple(_head(field) for field in split_fields(fields[8]))
        made = cls(k, fields[2], restore_generation, time, horizon, size, fields[7], heads)
        if made.encode() != body:
            raise RecordInvalid("the checkpoint is not in canonical form")
        return made


def digest(body: bytes) -> bytes:
    """Hash a checkpoint, as the next checkpoint and witnesses refer to it."""
    return sha256(body).digest()


def link_hash(chain: bytes, n: int, previous: bytes, leaves: Sequence[bytes], db_time: int) -> bytes:
    """Hash a commit and everything before it in its chain."""
    root = leaves[0] if len(leaves) == 1 else root_of(leaves)  # most commits have one record
    return sha256(b"\1" + length_prefixed(chain, u64(n), previous, u64(len(leaves)), root, u64(db_time))).digest()


def leaves_of(records: Sequence[bytes]) -> list[bytes]:
    """Hash each record, as `merkle.leaf_hash`."""
    return [sha256(b"\0" + record).digest() for record in records]


def split_leaves(leaves: bytes) -> list[bytes]:
    """Split concatenated hashes."""
    return [leaves[at : at + HASH_BYTES] for at in range(0, len(leaves), HASH_BYTES)]


def _head(field: bytes) -> Head:
    parts = split_fields(field)
    if len(parts) != 4:
        raise RecordInvalid("a head has four fields")
    try:
        return Head(parts[0], int.from_bytes(parts[1], "big"), parts[2], ChainState(parts[3].decode()))
    except ValueError:
        raise RecordInvalid("the chain is in a state that this release does not know") from None
