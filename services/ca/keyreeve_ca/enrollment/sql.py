"""`enrollment.ports.TokenRows` on both databases."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, or_, select

from keyreeve.enrollment_token import RETRY_SECONDS
from keyreeve.errors import KeyReused
from keyreeve_ca.enrollment.ports import TOKENS, StoredToken, TokenState
from keyreeve_ca.enrollment.tables import enrollment_tokens as tokens
from keyreeve_ca.store.tables import key_bindings
from keyreeve_chassis.database.transactions import touch
from keyreeve_chassis.processes import failpoints
from keyreeve_chassis.trust_tables.sql import SqlTrust

KEYS_KEPT = 24 * 3600
"""Seconds after its end for which a token's keys stay, so that its holder can be told why it is worth nothing."""
COMPARED = 2_000
"""Tokens of which each enrollment looks whether an earlier state was put back: about 3 ms."""
ROWS_KEPT = 30 * 24 * 3600
"""Seconds after its end for which a token is listed."""

_NAMES = [f.name for f in fields(StoredToken)]
_LIVE = tokens.c.state.in_((TokenState.OPEN, TokenState.BOUND))
# Made once: to build a statement takes longer than to execute it.
_PENDING = select(tokens.c.serial).where(tokens.c.state == TokenState.BOUND, tokens.c.serial.is_not(None))
BEFORE_BIND = failpoints.register("ca.enroll.before_bind", "A key is about to be bound to an enrollment token.")
AFTER_BIND = failpoints.register(
    "ca.enroll.after_bind", "A key is bound to a token, in a transaction not yet committed."
)
BEFORE_ISSUED = failpoints.register(
    "ca.enroll.before_issued", "A token's certificate is in the ledger, and its token does not name it yet."
)


class SqlTokens:
    """The tokens in one transaction."""

    def __init__(self, connection: Connection, trust: SqlTrust) -> None:
        self._connection = connection
        self._rows = trust.rows(tokens)

    def add(self, token: StoredToken) -> None:
        """Insert a token."""
        self._rows.insert(asdict(token))

    def get(self, token_id: bytes, *, current: bool = False) -> StoredToken | None:
        """Read one token, or None. Raises `TrustTableAltered`."""
        this = tokens.c.token_id == token_id
        row = self._rows.current_one(this, most=COMPARED) if current else self._rows.one(this)
        return None if row is None else _token(row)

    def page(self, *, after: bytes, limit: int) -> Sequence[StoredToken]:
        """Tokens in order of id, from the one after `after`."""
        query = select(tokens).where(tokens.c.token_id > after).order_by(tokens.c.token_id).limit(limit)
        return [_token(row) for row in self._connection.execute(query).mappings()]

    def any_for(self, identity: str, now: int) -> bool:
        """Whether a token for this identity is open and unexpired, or bound."""
        usable = or_(tokens.c.state == TokenState.BOUND, tokens.c.expires_at > now)
        query = select(tokens.c.token_id).where(tokens.c.identity == identity, _LIVE, usable).limit(1)
        return self._connection.execute(query).first() is not None

    def replaced(self, token_id: bytes, *, repeated: bool) -> Sequence[bytes]:
        """Serial numbers that other tokens of the same identity and creator led to, bound no later than this one."""
        this = tokens.alias()
        same = and_(
            this.c.token_id == token_id,
            tokens.c.token_id != token_id,
            tokens.c.identity == this.c.identity,
            tokens.c.creator == this.c.creator,
            tokens.c.serial.is_not(None),
            tokens.c.bound_at < this.c.bound_at if repeated else tokens.c.bound_at <= this.c.bound_at,
        )
        return list(self._connection.scalars(select(tokens.c.serial).join(this, same)))

    def rekey(self, token_id: bytes, sealed_keys: bytes, now: int) -> bool:
        """Replace the keys of an unused token."""
        return bool(self._rows.update(self._usable(token_id, now), {"sealed_keys": sealed_keys}))

    def bind(self, token_id: bytes, spki_sha256: bytes, now: int) -> bool:
        """Bind an unused token to a key. Raises `KeyReused`."""
        failpoints.hit(BEFORE_BIND)
        self._refuse_key_of_another(token_id, spki_sha256)
        values = {"state": TokenState.BOUND, "spki_sha256": spki_sha256, "bound_at": now}
        bound = bool(self._rows.update(self._usable(token_id, now), values))
        failpoints.hit(AFTER_BIND)
        return bound

    def _refuse_key_of_another(self, token_id: bytes, spki_sha256: bytes) -> None:
        """Raise `KeyReused` before binding.

        A key that can never be certified for the token's identity must not use the token up.
        """
        another = select(key_bindings.c.identity).join(
            tokens, (tokens.c.token_id == token_id) & (tokens.c.identity != key_bindings.c.identity)
        )
        if self._connection.scalar(another.where(key_bindings.c.spki_sha256 == spki_sha256)) is not None:
            raise KeyReused("the key belongs to another identity; make a new one for this enrollment")

    def issued(self, token_id: bytes, serial: bytes) -> None:
        """Record which certificate a bound token led to."""
        failpoints.hit(BEFORE_ISSUED)
        touch(self._connection, TOKENS)
        bound = and_(tokens.c.token_id == token_id, tokens.c.state == TokenState.BOUND, tokens.c.serial.is_(None))
        self._rows.update(bound, {"serial": serial})

    def revoke(self, token_id: bytes, now: int) -> bool:
        """Revoke a token that is open or bound."""
        touch(self._connection, TOKENS)
        return bool(self._rows.update(and_(tokens.c.token_id == token_id, _LIVE), _revoked(now)))

    def revoke_made_by(self, creators: Collection[str], now: int) -> int:
        """Revoke every open or bound token that these identities created."""
        made = and_(_LIVE, tokens.c.creator.in_(creators))
        if revoked := self._rows.update(made, _revoked(now), leave_altered=True):
            touch(self._connection, TOKENS)
        return revoked

    def close(self, serial: bytes, now: int) -> bool:
        """Close the bound token of this certificate, and erase its keys."""
        touch(self._connection, TOKENS)
        bound = and_(tokens.c.state == TokenState.BOUND, tokens.c.serial == serial)
        return bool(self._rows.update(bound, _closed(now)))

    def pending(self) -> Sequence[bytes]:
        """Serial numbers of the certificates whose tokens are bound."""
        return list(self._connection.scalars(_PENDING))

    def tidy(self, now: int) -> int:
        """Close tokens bound long ago, erase keys of expired tokens, delete tokens that ended long ago."""
        bound_long_ago = and_(tokens.c.state == TokenState.BOUND, tokens.c.bound_at <= now - RETRY_SECONDS)
        closed = self._rows.update(bound_long_ago, _closed(now), leave_altered=True)
        if closed:
            touch(self._connection, TOKENS)
        over = and_(tokens.c.state.in_((TokenState.OPEN, TokenState.REVOKED)), tokens.c.expires_at < now - KEYS_KEPT)
        over = and_(over, tokens.c.sealed_keys.is_not(None))
        erased = self._rows.update(over, {"sealed_keys": None}, leave_altered=True)
        ended = or_(tokens.c.state != TokenState.BOUND, tokens.c.bound_at <= now - RETRY_SECONDS)
        gone = self._rows.delete(and_(ended, tokens.c.expires_at < now - ROWS_KEPT))
        return closed + erased + gone

    @staticmethod
    def _usable(token_id: bytes, now: int) -> ColumnElement[bool]:
        return and_(tokens.c.token_id == token_id, tokens.c.state == TokenState.OPEN, tokens.c.expires_at > now)


def _revoked(now: int) -> dict[str, Any]:
    return {"state": TokenState.REVOKED, "ended_at": now}


def _closed(now: int) -> dict[str, Any]:
    return {"state": TokenState.CLOSED, "ended_at": now, "sealed_keys": None}


def _token(row: Mapping[Any, Any]) -> StoredToken:
    return StoredToken(**{**{name: row[name] for name in _NAMES}, "state": TokenState(row["state"])})
