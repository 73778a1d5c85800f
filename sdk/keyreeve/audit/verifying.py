"""Verification of an audit log from a service's tables, its RPCs, or an export.

A log is a sequence of segments, one for each checkpoint: the links that it added, and the registrations of the chains that
began in it. All hashes are recomputed from the records; the signed roots decide.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key

from keyreeve.audit.log import (
    HASH_BYTES,
    NO_HASH,
    ChainState,
    Checkpoint,
    Head,
    Link,
    Registration,
    digest,
    leaves_of,
    link_hash,
    split_leaves,
)
from keyreeve.audit.merkle import Frontier, leaf_hash
from keyreeve.audit.record import Record, RecordInvalid, split_fields

MAX_PROBLEMS = 100


class Segment(NamedTuple):
    """What one checkpoint added."""

    body: bytes
    signature: bytes
    registrations: tuple[Registration, ...]
    links: tuple[Link, ...]


class Witnessed(NamedTuple):
    """The highest checkpoint that a witness has seen."""

    k: int
    digest: bytes


class Problem(NamedTuple):
    """A difference from what was written.

    `where` names the checkpoint, chain or link.
    """

    kind: str
    where: str
    message: str


class KeyUnusable(ValueError):
    """The audit key cannot be read."""


class Verifier:
    """Verifies segments in order, and collects the problems."""

    def __init__(
        self,
        spki: bytes,
        *,
        witnessed: Sequence[Witnessed] = (),
        on_node: Callable[[int, int, bytes], None] | None = None,
    ) -> None:
        """Trust the audit key `spki`, and compare with the witnessed checkpoints.

        The key is a DER SubjectPublicKeyInfo. `on_node` is called with each subtree of links once it is complete: the height,
        the number at that height, and the root.
        """
        try:
            key = load_der_public_key(spki)
        except (ValueError, UnsupportedAlgorithm) as wrong:
            raise KeyUnusable(f"the audit key cannot be read: {wrong}") from None
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise KeyUnusable("the audit key is not an ECDSA key")
        self._key = key
        self._witnessed = {w.k: w.digest for w in witnessed}
        self._heads: dict[bytes, Head] = {}
        self._on_node = on_node
        self._frontier = Frontier(on_node=on_node)
        self.last: Checkpoint | None = None
        self.last_digest = NO_HASH
        self.records = 0
        self.purged = 0
        self.links = 0
        self.tail_links = 0
        self.problems: list[Problem] = []
        self.ended: dict[bytes, Head] = {}
        """The chains that ended in a verified checkpoint, and their states."""
        self._missing: tuple[int, str] | None = None
        """The newest link without its records."""

    def has_signed(self, body: bytes, signature: bytes) -> bool:
        """Whether the audit key has signed these bytes."""
        try:
            self._key.verify(signature, body, ec.ECDSA(SHA256()))
        except InvalidSignature:
            return False
        return True

    def resume(self, body: bytes, signature: bytes, frontier: Frontier) -> None:
        """Start after a checkpoint whose signature covers everything before it.

        To be called before the first `add`.
        """
        checkpoint = self._checkpoint(body, signature)
        if checkpoint is None:
            return
        if frontier.size != checkpoint.size or frontier.root() != checkpoint.root:
            self._report("root", f"checkpoint {checkpoint.k}", "the stored tree has another root")
        self._frontier = Frontier(frontier.size, frontier.roots, self._on_node)
        self.last, self.last_digest = checkpoint, digest(body)
        self._heads = {h.chain: h for h in checkpoint.heads if h.state is ChainState.OPEN}
        self._witness(checkpoint)

    def add(self, segment: Segment) -> None:
        """Verify the next checkpoint and what it added."""
        checkpoint = self._checkpoint(segment.body, segment.signature)
        if checkpoint is None:
            return
        where = f"checkpoint {checkpoint.k}"
        self._follows(checkpoint, where)
        self._chain(segment.registrations, segment.links)
        for link in segment.links:
            self._frontier.append(leaf_hash(link.link))
        if self._frontier.size != checkpoint.size:
            self._report("size", where, f"{self._frontier.size} links where {checkpoint.size} were signed")
        elif self._frontier.root() != checkpoint.root:
            self._report("root", where, "the links do not have the signed root")
        self._same_heads(checkpoint, where)
        self.last, self.last_digest = checkpoint, digest(segment.body)
        self._witness(checkpoint)

    def add_tail(self, registrations: Iterable[Registration], links: Sequence[Link]) -> None:
        """Verify that the links that no checkpoint covers yet continue their chains."""
        self.tail_links = len(links)
        self._chain(registrations, links)

    def finish(self) -> None:
        """Report what is known only at the end of the log."""
        reached = self.last.k if self.last else 0
        for k in sorted(self._witnessed):
            if k > reached:
                self._report("witness", f"checkpoint {k}", f"it was witnessed, but the log ends with {reached}")
        self.finish_part(self.last)

    def finish_part(self, newest: Checkpoint | None) -> None:
        """Report what is known at the end of a part.

        The newest checkpoint says which records may have been purged.
        """
        horizon = newest.horizon if newest else 0
        if self._missing is not None and self._missing[0] >= horizon:
            self._report("record", self._missing[1], "its records are missing, but too new to have been purged")

    def _checkpoint(self, body: bytes, signature: bytes) -> Checkpoint | None:
        try:
            checkpoint = Checkpoint.decode(body)
        except RecordInvalid as wrong:
            self._report("checkpoint", f"after checkpoint {self.last.k if self.last else 0}", str(wrong))
            return None
        if not self.has_signed(body, signature):
            self._report("signature", f"checkpoint {checkpoint.k}", "it was not signed with the audit key")
        return checkpoint

    def _follows(self, checkpoint: Checkpoint, where: str) -> None:
        last = self.last
        if checkpoint.k != (last.k + 1 if last else 1):
            self._report("checkpoint", where, f"it follows checkpoint {last.k if last else 0}")
        if checkpoint.previous != self.last_digest:
            self._report("checkpoint", where, "it refers to another checkpoint before it")
        if last is not None and (
            checkpoint.time < last.time or checkpoint.restore_generation < last.restore_generation
        ):
            self._report("checkpoint", where, "its time or restore generation goes back")

    def _witness(self, checkpoint: Checkpoint) -> None:
        seen = self._witnessed.get(checkpoint.k)
        if seen is not None and seen != self.last_digest:
            self._report("witness", f"checkpoint {checkpoint.k}", "another one of this number was witnessed")

    def _chain(self, registrations: Iterable[Registration], links: Sequence[Link]) -> None:
        for registration in registrations:
            if registration.chain in self._heads:
                self._report("chain", registration.chain.hex(), "it is registered twice")
            self._heads[registration.chain] = Head(registration.chain, 0, registration.genesis(), ChainState.OPEN)
        before: tuple[bytes, int] | None = None
        for link in links:
            if before is not None and (link.chain, link.n) <= before:
                self._report("order", _where(link), "the links are not in the order of their chains")
            before = (link.chain, link.n)
            self._link(link)

    def _link(self, link: Link) -> None:
        where, head = _where(link), self._heads.get(link.chain)
        self.links += 1
        if head is None:
            self._report("chain", where, "its chain is not registered, or has ended")
            return
        if link.n != head.n + 1:
            self._report("link", where, f"it follows link {head.n} of its chain")
        leaves = split_leaves(link.leaves)
        self.records += len(leaves)
        if not leaves or len(link.leaves) % HASH_BYTES:
            self._report("link", where, "its hashes of records are truncated")
        elif link.bodies is None:
            self.purged += len(leaves)
            self._missing = max(self._missing or (-1, ""), (link.db_time, where))
        else:
            self._bodies(link.bodies, leaves, where)
        if link_hash(link.chain, link.n, head.link, leaves, link.db_time) != link.link:
            self._report("link", where, "its hash does not match its contents")
        self._heads[link.chain] = Head(link.chain, link.n, link.link, head.state)

    def _bodies(self, bodies: bytes, leaves: list[bytes], where: str) -> None:
        try:
            records = split_fields(bodies)
            if leaves_of(records) != leaves:
                self._report("record", where, "its records are not those that were written")
                return
            for record in records:
                Record.decode(record)
        except RecordInvalid as wrong:
            self._report("record", where, str(wrong))

    def _same_heads(self, checkpoint: Checkpoint, where: str) -> None:
        signed_heads = {h.chain: h for h in checkpoint.heads}
        for chain, head in self._heads.items():
            signed = signed_heads.pop(chain, None)
            if signed is None or (signed.n, signed.link) != (head.n, head.link):
                at = "no head" if signed is None else f"link {signed.n}"
                self._report("chain", chain.hex(), f"{where} was signed with {at} of it; found is link {head.n}")
        for chain in signed_heads:
            self._report("chain", chain.hex(), f"{where} names it, but it is missing")
        self.ended |= {h.chain: h for h in checkpoint.heads if h.state is not ChainState.OPEN}
        self._heads = {h.chain: h for h in checkpoint.heads if h.state is ChainState.OPEN}

    def _report(self, kind: str, where: str, message: str) -> None:
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(Problem(kind, where, message))


def _where(link: Link) -> str:
    return f"link {link.n} of chain {link.chain.hex()}"
