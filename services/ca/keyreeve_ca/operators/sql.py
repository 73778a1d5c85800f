"""`operators.ports.OperatorRecords` on both databases."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

from sqlalchemy import and_, select

from keyreeve.identity import Role
from keyreeve_ca.operators.ports import Approval, Operator, RegisteredKey
from keyreeve_ca.operators.tables import operator_approvals, operator_keys, operator_ssh_authorities, operators
from keyreeve_ca.requests.openssh_keys import stored_key
from keyreeve_chassis.trust_tables.sql import SqlTrust

_NAMES = [f.name for f in fields(Operator) if f.name != "keys"]
_MOST_BOUND = 1_000
"""Values in one statement; for more people than that the keys of all are read."""


class SqlOperators:
    """The records in one transaction. A row that something else has changed is nobody's."""

    def __init__(self, trust: SqlTrust, number: Callable[[], int]) -> None:
        self._people = trust.rows(operators)
        self._held = trust.rows(operator_keys)
        self._approvals = trust.rows(operator_approvals)
        self._authorities = trust.rows(operator_ssh_authorities)
        self._number = number

    def active(self, *, after: str = "", limit: int | None = None) -> Sequence[Operator]:
        """Operators that have not been removed, in order of name, after `after`."""
        query = select(operators).where(operators.c.removed_at.is_(None), operators.c.name > after)
        rows = self._people.true_ones(query.order_by(operators.c.name).limit(limit))
        keys = self._keys([row["person_uid"] for row in rows])
        return [_person(row, keys.get(row["person_uid"], ())) for row in rows]

    def find(self, name: str) -> Operator | None:
        """The operator with this name now, or None. Raises `TrustTableAltered`."""
        row = self._people.one(and_(operators.c.removed_at.is_(None), operators.c.name == name))
        return None if row is None else _person(row, self._keys([row["person_uid"]]).get(row["person_uid"], ()))

    def add(self, person: Operator) -> None:
        """Insert an operator."""
        self._people.insert({"seq": self._number(), **_values(person)})

    def update(self, person: Operator) -> None:
        """Replace an operator's record."""
        values = _values(person) | {"seq": self._number()}
        self._people.update(operators.c.person_uid == values.pop("person_uid"), values)

    def put_approval(self, approval: Approval) -> None:
        """Store an approval, in the place of an earlier one of the same change."""
        self._approvals.delete(operator_approvals.c.change == approval.change)
        self._approvals.insert(asdict(approval))

    def take_approval(self, change: str) -> Approval | None:
        """Remove and return the approval of a change, or None. Raises `TrustTableAltered`."""
        row = self._approvals.current_one(operator_approvals.c.change == change)
        if row is None:
            return None
        self._approvals.delete(operator_approvals.c.change == change)
        return Approval(row["change"], row["approved_at"], row["approved_by"], row["approver"])

    def holder_of_key(self, fingerprint: str) -> Operator | None:
        """The operator whose registered key this is. Raises `TrustTableAltered`."""
        held = self._held.current_one(operator_keys.c.fingerprint == fingerprint)
        if held is None:
            return None
        found = and_(operators.c.removed_at.is_(None), operators.c.person_uid == held["person_uid"])
        row = self._people.one(found)
        return None if row is None else _person(row, self._keys([row["person_uid"]]).get(row["person_uid"], ()))

    def ssh_authorities(self, person_uid: str) -> Sequence[RegisteredKey]:
        """The SSH CAs that are registered for an operator, in order of their fingerprints."""
        c = operator_ssh_authorities.c
        self._authorities.refuse_unless_current()
        query = select(operator_ssh_authorities).where(c.person_uid == person_uid).order_by(c.fingerprint)
        rows = self._authorities.true_ones(query)
        return [RegisteredKey(stored_key(row["line"]), row["added_at"], row["added_by"]) for row in rows]

    def set_ssh_authorities(self, person_uid: str, keys: Sequence[RegisteredKey]) -> None:
        """Replace the SSH CAs of an operator."""
        self._authorities.delete(operator_ssh_authorities.c.person_uid == person_uid)
        for each in keys:
            row = {"person_uid": person_uid, "fingerprint": each.key.fingerprint, "line": each.key.line}
            self._authorities.insert({**row, "added_at": each.added_at, "added_by": each.added_by})

    def set_keys(self, person_uid: str, keys: Sequence[RegisteredKey]) -> None:
        """Replace an operator's keys."""
        self._held.delete(operator_keys.c.person_uid == person_uid)
        for each in keys:
            row = {"fingerprint": each.key.fingerprint, "person_uid": person_uid, "line": each.key.line}
            self._held.insert({**row, "added_at": each.added_at, "added_by": each.added_by})

    def _keys(self, person_uids: Sequence[str]) -> dict[str, tuple[RegisteredKey, ...]]:
        """The keys of each operator, in order of their fingerprints."""
        found: dict[str, tuple[RegisteredKey, ...]] = {}
        query = select(operator_keys).order_by(operator_keys.c.fingerprint)
        if len(person_uids) <= _MOST_BOUND:
            query = query.where(operator_keys.c.person_uid.in_(person_uids))
        for row in self._held.true_ones(query):
            key = RegisteredKey(stored_key(row["line"]), row["added_at"], row["added_by"])
            found[row["person_uid"]] = (*found.get(row["person_uid"], ()), key)
        return found


def _values(person: Operator) -> dict[str, Any]:
    return {name: getattr(person, name) for name in _NAMES}


def _person(row: Mapping[Any, Any], keys: tuple[RegisteredKey, ...]) -> Operator:
    return Operator(**{**{name: row[name] for name in _NAMES}, "role": Role(row["role"])}, keys=keys)
