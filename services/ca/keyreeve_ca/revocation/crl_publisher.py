"""Publishing lists of revoked certificates: which are due, what is on them, and that their numbers only rise.

A list covers one shard of an authority: five blocks of serial numbers, fixed when they were leased and named in every
certificate of theirs. On it are the certificates that were revoked, and the phantoms: what a worker that died may have
signed without storing it, recomputed from its block's seed. The number is on disk before the list that bears it exists,
and a list never replaces one of a higher number or of later knowledge; so whatever dies when, no list goes back.

A list may hold 20,480 certificates, and the signing path shares the interpreter, on SQLite the writer too. So a shard that
goes on changing gets a list twice a second at the most, a list is read and encoded in pieces of about a millisecond, and
after each the same time passes without work.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial

from cryptography import x509

from keyreeve import errors
from keyreeve.values import AuthorityKind, AuthorityState
from keyreeve_ca.certificates import serials
from keyreeve_ca.certificates.signers import CrlSigner
from keyreeve_ca.issuance.snapshot import IssuanceSnapshot, issuer_of
from keyreeve_ca.ledger.ports import MAX_UNCOMMITTED
from keyreeve_ca.revocation.crl import ListEntry, build_revocation_list
from keyreeve_ca.revocation.ports import (
    FULL_LIST,
    REASON_CODES,
    ListState,
    Phantoms,
    PublishedList,
    SeededPhantoms,
    Shard,
    VoidBlock,
)
from keyreeve_ca.revocation.scopes import covers_all, has_one_list
from keyreeve_ca.store.ports import Authority, Store, Transaction
from keyreeve_chassis.database.ports import Wait
from keyreeve_chassis.keys.ports import KeyStore

LIFETIME = 24 * 3600
"""Seconds from a list to its nextUpdate; the next is made when half of them have passed."""
BACKDATE = 60
"""Seconds by which thisUpdate lies back, for readers whose clocks are late."""
_KEEP = LIFETIME
"""Seconds for which an expired certificate stays listed: it must be on one list made after its end (RFC 5280, 3.3)."""
_PHANTOMS_AT_ONCE = 100
_GAP = 0.5
"""Seconds between two lists of a shard that goes on changing; half of those within which a list has to follow a change."""
_FULL_GAP = 5.0
"""The same for full lists, which can be as large as all shards together."""
_SOON = 0.25
"""Seconds to the next attempt, and to a look whether a shard's gap is over."""
_LOOK_SECONDS = 2.0
"""Seconds between two looks at what the time makes due; nothing is read for them."""
_PAGE = 500
"""Revocations read in one go."""
_COUNTERS = 250
"""Serial numbers recomputed in one go."""
_REST = 1.0
"""Pause after a piece of work, as a multiple of the time that it took."""
_LONGEST_REST = 0.05
"""Seconds of such a pause at the most, however long the piece took: a list has to be there within a second."""
_BREATH = 0.001
"""Seconds of such a pause in a thread, where each piece takes less."""

log = logging.getLogger(__name__)


@dataclass
class CrlPublisher:
    """Publishes due CRLs. Not frozen: it remembers the published ones."""

    store: Store
    keystore: KeyStore
    snapshot: Callable[[], IssuanceSnapshot]
    url: str
    now: Callable[[], int]
    clock: Callable[[], float] = time.monotonic
    _states: dict[Shard, ListState] = field(default_factory=dict)
    _shards: dict[str, int] = field(default_factory=dict)
    _seen: int = -1
    _changed: dict[Shard, int] = field(default_factory=dict)
    """The last change of each shard whose list has yet to say so."""
    _began: dict[Shard, float] = field(default_factory=dict)
    """When the newest list made here of each shard was begun."""
    _revoked: dict[Shard, frozenset[bytes]] = field(default_factory=dict)
    """The revoked authorities on a root's newest list made here."""

    async def run(self, wait: Wait) -> None:
        """Publish due CRLs forever."""
        read = True
        while True:
            failed = False
            try:
                if read:
                    await self._read_changes()
                await self.publish_due()
            except errors.StoreUnavailable as unavailable:
                log.warning("revocation lists could not be made: %s", unavailable)
                failed = True
            except errors.KeyreeveError:
                log.exception("revocation lists could not be made")
                failed = True
            read = await wait(_SOON if failed or self._changed else _LOOK_SECONDS) or failed

    async def publish_due(self) -> int:
        """Publish every due CRL of what has been read once; return how many. Raises `StoreUnavailable`."""
        snapshot, made = self.snapshot(), 0
        # Full lists come last: a list that certificates name must not wait for them.
        for shard in sorted(self._due(snapshot), key=lambda shard: shard[1] == FULL_LIST):
            began = self._began[shard] = self.clock()
            try:
                made += await self._publish(snapshot.authorities[shard[0]], shard)
            except LookupError:
                log.warning("authority %s has no key any more, so its lists end", shard[0])
            await self._rest(began)
        return made

    async def _read_changes(self) -> None:
        if self._seen < 0:
            self._states = await self.store.read(lambda tx: tx.revocations.list_states())
        await self._notice_phantoms()
        self._seen, changed, self._shards = await self.store.read(self._look)
        self._changed = {
            shard: seq
            for shard, seq in (self._changed | changed | _full_lists(changed)).items()
            if shard not in self._states or seq > self._states[shard].seq
        }

    def _look(self, tx: Transaction) -> tuple[int, dict[Shard, int], dict[str, int]]:
        last = tx.revocations.last_seq()
        changed = tx.revocations.changed_shards(self._seen) if last > self._seen else {}
        return last, changed, tx.revocations.shards()

    async def _notice_phantoms(self) -> None:
        """Record what the workers of void blocks may have signed; from then on it counts as revoked."""
        if not await self.store.read(lambda tx: tx.revocations.any_void_block(), one_statement=True):
            return
        authorities, now = self.snapshot().authorities, self.now()

        def act(tx: Transaction) -> None:
            tx.revocations.add_phantoms(
                [phantoms_of(block, authorities, now) for block in tx.revocations.void_blocks(_PHANTOMS_AT_ONCE)]
            )

        await self.store.write(act)

    def _due(self, snapshot: IssuanceSnapshot) -> Iterable[Shard]:
        now = self.now()
        for authority in snapshot.authorities.values():
            if authority.state in (AuthorityState.PENDING, AuthorityState.RETIRED) or authority.not_after <= now:
                continue
            revoked = _revoked_below(snapshot, authority)
            full = () if has_one_list(authority) else (FULL_LIST,)
            for number in (*range(self._shards.get(authority.authority_id, 1)), *full):
                shard = (authority.authority_id, number)
                state = self._states.get(shard)
                if (
                    state is None
                    or (self._changed.get(shard, 0) > state.seq and self._has_rested(shard))
                    or now >= state.next_update - LIFETIME // 2
                    or (number == 0 and revoked != self._revoked.get(shard, frozenset()))
                ):
                    yield shard

    async def _rest(self, began: float) -> None:
        """Yield to other tasks after a piece of work that began at the given time."""
        await asyncio.sleep(min((self.clock() - began) * _REST, _LONGEST_REST))

    def _has_rested(self, shard: Shard) -> bool:
        gap = _FULL_GAP if shard[1] == FULL_LIST else _GAP
        return self.clock() - self._began.get(shard, float("-inf")) >= gap

    async def _publish(self, authority: Authority, shard: Shard) -> bool:
        number = await self.store.write_beside(lambda tx: tx.revocations.reserve_list_number(shard))
        now, below = self.now(), _revoked_below(self.snapshot(), authority)
        seq, phantoms, key = await self.store.read(
            lambda tx: (
                tx.revocations.last_seq(),
                tx.revocations.phantoms(shard, expiring_from=now - _KEEP),
                tx.key(authority.key_id),
            )
        )
        entries = await self._listed(shard, now - _KEEP)  # and maybe more than up to `seq`, which does no harm
        state = ListState(number, seq, now - BACKDATE, min(now + LIFETIME, authority.not_after))
        pause = partial(time.sleep, _BREATH)

        def make() -> PublishedList:
            for some in phantoms:
                for n, serial in enumerate(self._serials(some), 1):
                    entries.setdefault(serial, ListEntry(serial, some.phantoms.noticed_at))
                    if n % _COUNTERS == 0:
                        pause()
            if shard[1] == 0:
                entries.update((entry.serial, entry) for entry in _authorities_listed(self.snapshot(), authority))
            signed = build_revocation_list(
                issuer_of(authority, self.url),
                CrlSigner(self.keystore.open(key)),
                None if covers_all(authority, shard) else shard[1],
                number=number,
                this_update=state.this_update,
                next_update=state.next_update,
                entries=entries.values(),
                pause=pause,
            )
            return PublishedList(state, len(entries), signed)

        made = await asyncio.to_thread(make)
        if not await self.store.write_beside(lambda tx: tx.revocations.publish_list(shard, made)):
            self._states = await self.store.read(lambda tx: tx.revocations.list_states())
            return False  # another coordinator's is newer
        self._states[shard] = state
        self._changed.pop(shard, None)
        self._revoked[shard] = below
        return True

    async def _listed(self, shard: Shard, expiring_from: int) -> dict[bytes, ListEntry]:
        """The entries of a CRL by serial number."""
        found: dict[bytes, ListEntry] = {}
        after = 0
        while True:
            began = self.clock()
            page = await self.store.read(partial(_page, shard, expiring_from, after))
            found.update((serial, ListEntry(serial, when, REASON_CODES[reason])) for serial, when, reason, _ in page)
            if len(page) < _PAGE:
                return found
            after = page[-1][3]
            await self._rest(began)

    def _serials(self, some: SeededPhantoms) -> Iterable[bytes]:
        seed = self.keystore.unseal("seed", some.seed_id, some.sealed_seed)
        found = some.phantoms
        for counter in range(found.first_counter, found.last_counter + 1):
            yield serials.serial(found.block_id, seed, counter)


def _full_lists(changed: Mapping[Shard, int]) -> dict[Shard, int]:
    """Return the last change of the full list of each authority with a changed shard."""
    found: dict[Shard, int] = {}
    for (authority_id, _), seq in changed.items():
        shard = (authority_id, FULL_LIST)
        found[shard] = max(seq, found.get(shard, 0))
    return found


def _page(shard: Shard, expiring_from: int, after: int, tx: Transaction) -> list[tuple[bytes, int, str, int]]:
    return tx.revocations.listed(shard, expiring_from=expiring_from, after=after, limit=_PAGE)


def phantoms_of(block: VoidBlock, authorities: dict[str, Authority], now: int) -> Phantoms:
    """Counters of a void block that may have been signed, and until when they could be valid.

    Its worker was gone when the block was voided: whatever it signed is valid for at most the longest lifetime of the
    block's profiles from now, and no longer than its authority.
    """
    authority = authorities.get(block.authority_id)
    ends = [] if authority is None else [authority.not_after]
    if block.longest_lifetime is not None:
        ends.append(now + block.longest_lifetime)
    return Phantoms(
        block_id=block.block_id,
        authority_id=block.authority_id,
        crl_shard=block.crl_shard,
        first_counter=block.committed + 1,
        last_counter=min(block.committed + MAX_UNCOMMITTED, block.size - 1),
        noticed_at=now,
        expires_at=min(ends, default=now),
    )


def _authorities_listed(snapshot: IssuanceSnapshot, root: Authority) -> list[ListEntry]:
    """The revoked authorities that a root signed."""
    return [
        ListEntry(serial_of_authority(one), one.revoked_at or 0, REASON_CODES[one.revocation_reason or "unspecified"])
        for one in snapshot.authorities.values()
        if root.kind is AuthorityKind.ROOT
        and one.issuer_id == root.authority_id
        and one.authority_id != root.authority_id
        and one.state is AuthorityState.REVOKED
    ]


def _revoked_below(snapshot: IssuanceSnapshot, root: Authority) -> frozenset[bytes]:
    return frozenset(entry.serial for entry in _authorities_listed(snapshot, root))


def serial_of_authority(authority: Authority) -> bytes:
    """The serial number of an authority's certificate, which lies in a block like any other."""
    certificate = x509.load_der_x509_certificate(authority.certificate_der)
    return certificate.serial_number.to_bytes(serials.SERIAL_BYTES, "big")
