"""Merkle trees of RFC 6962, section 2.1: roots and proofs.

`Range` returns the root over the leaves from `start` up to `end`, exclusive. A proof needs few of them, so that storing
some inner nodes of a large tree is enough. Leaves are hashes already (`leaf_hash`). Imports only the standard library.
"""

from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256

EMPTY_ROOT = sha256().digest()
Range = Callable[[int, int], bytes]


def leaf_hash(data: bytes) -> bytes:
    """Compute `H(0 || data)`."""
    return sha256(b"\0" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Compute `H(1 || left || right)`."""
    return sha256(b"\1" + left + right).digest()


def root_of(leaves: Sequence[bytes]) -> bytes:
    """Compute the root over hashed leaves."""
    if len(leaves) == 1:
        return leaves[0]
    frontier = Frontier()
    frontier.extend(leaves)
    return frontier.root()


class Frontier:
    """The right edge of a growing tree: the roots of its complete subtrees.

    They are enough to append to it.
    """

    def __init__(
        self, size: int = 0, roots: Iterable[bytes] = (), on_node: Callable[[int, int, bytes], None] | None = None
    ) -> None:
        """Start empty, or with the subtrees (`edges`) of a tree of `size` leaves.

        `on_node` is called with each subtree when it is complete: its height, its number at that height, its root.
        """
        self.size = size
        self.roots = list(roots)
        self._on_node = on_node

    def append(self, leaf: bytes) -> None:
        """Add a leaf."""
        size, roots, height = self.size, self.roots, 0
        while size & 1:
            leaf = node_hash(roots.pop(), leaf)
            size >>= 1
            height += 1
            if self._on_node is not None:
                self._on_node(height, size, leaf)
        roots.append(leaf)
        self.size += 1

    def extend(self, leaves: Iterable[bytes]) -> None:
        """Add leaves in order."""
        for leaf in leaves:
            self.append(leaf)

    def root(self) -> bytes:
        """Compute the root over all leaves so far."""
        if not self.roots:
            return EMPTY_ROOT
        found = self.roots[-1]
        for left in reversed(self.roots[:-1]):
            found = node_hash(left, found)
        return found


def edges(size: int) -> list[tuple[int, int]]:
    """List the complete subtrees of a tree as ranges of leaves, largest first."""
    found, start = [], 0
    while start < size:
        width = 1 << ((size - start).bit_length() - 1)
        found.append((start, start + width))
        start += width
    return found


def split(width: int) -> int:
    """Return the largest power of two below `width`, where RFC 6962 divides a tree."""
    return 1 << ((width - 1).bit_length() - 1)


def inclusion_proof(index: int, size: int, hashes: Range) -> list[bytes]:
    """Make the path from leaf `index` to the root of a tree of `size` leaves (2.1.1)."""
    start, end, path = 0, size, []
    while end - start > 1:
        middle = start + split(end - start)
        if index < middle:
            path.append(hashes(middle, end))
            end = middle
        else:
            path.append(hashes(start, middle))
            start = middle
    return path[::-1]


def consistency_proof(old: int, new: int, hashes: Range) -> list[bytes]:
    """Make a consistency proof between trees of `old` > 0 and `new` leaves (2.1.2)."""
    start, end, whole, proof = 0, new, True, []
    while start + old != end:
        middle = start + split(end - start)
        if start + old <= middle:
            proof.append(hashes(middle, end))
            end = middle
        else:
            proof.append(hashes(start, middle))
            old -= middle - start
            start = middle
            whole = False
    if not whole:
        proof.append(hashes(start, end))
    return proof[::-1]


def includes(leaf: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> bool:
    """Whether `path` leads from the leaf to the root (RFC 9162, 2.1.3.2)."""
    if not 0 <= index < size:
        return False
    at, last, found = index, size - 1, leaf
    for step in path:
        if last == 0:
            return False
        if at & 1 or at == last:
            found = node_hash(step, found)
            while not at & 1 and at:
                at >>= 1
                last >>= 1
        else:
            found = node_hash(found, step)
        at >>= 1
        last >>= 1
    return last == 0 and found == root


def is_consistent(old: int, old_root: bytes, new: int, new_root: bytes, proof: Sequence[bytes]) -> bool:
    """Whether a proof shows that the new tree begins with the old one.

    RFC 9162, section 2.1.4.2.
    """
    if old > new or old < 0:
        return False
    if old in {0, new}:
        return not proof and (old == 0 or old_root == new_root)
    path = [old_root, *proof] if old & (old - 1) == 0 else list(proof)
    if not path:
        return False
    at, last = old - 1, new - 1
    while at & 1:
        at >>= 1
        last >>= 1
    first = second = path[0]
    for step in path[1:]:
        if last == 0:
            return False
        if at & 1 or at == last:
            first, second = node_hash(step, first), node_hash(step, second)
            while not at & 1 and at:
                at >>= 1
                last >>= 1
        else:
            second = node_hash(second, step)
        at >>= 1
        last >>= 1
    return last == 0 and first == old_root and second == new_root
