"""Keys and SSH CAs with which operators log in by SSH: register, list, remove."""

from collections.abc import Callable
from dataclasses import dataclass

from keyreeve import errors
from keyreeve.identity import Caller, Role
from keyreeve_ca.operators.ports import Operator, RegisteredKey
from keyreeve_ca.operators.service import Operators, close_sessions
from keyreeve_ca.requests.openssh_keys import MOST_KEYS, OperatorKey
from keyreeve_ca.store.ports import Transaction


@dataclass(frozen=True, slots=True)
class SshKey:
    """A registered key or CA of an operator."""

    operator: str
    registered: RegisteredKey
    certificate_authority: bool


@dataclass(frozen=True)
class SshKeys:
    """The use cases. Every method runs in the caller's transaction."""

    operators: Operators
    now: Callable[[], int]

    def register(self, tx: Transaction, name: str, key: OperatorKey, by: Caller, *, authority: bool) -> SshKey:
        """Register a key or a CA. Raises `OperatorNotFound`, `SecondPersonRequired`, `KeyReused`, `FieldInvalid`."""
        known = self.operators.get(tx, name)
        if known.person_uid == by.person_uid:
            raise errors.SecondPersonRequired("operators cannot change their own keys", metadata={"approver": str(by)})
        held = _held(tx, known, authority=authority)
        for each in held:
            if each.key.fingerprint == key.fingerprint:
                return SshKey(name, each, authority)
        if len(held) >= MOST_KEYS:
            raise errors.FieldInvalid(f"at most {MOST_KEYS} keys of one person")
        made = RegisteredKey(key, self.now(), str(by))
        if authority:
            self.operators.check_new_credential(tx, known, str(by))
            tx.operators.set_ssh_authorities(known.person_uid, [*held, made])
        else:
            self.operators.change_keys(tx, name, [*(each.key for each in held), key], str(by))
        return SshKey(name, made, authority)

    def all(self, tx: Transaction, name: str, by: Caller) -> list[SshKey]:
        """The keys, then the CAs. Raises `OperatorNotFound`; operators see their own."""
        known = self._visible(tx, name, by, all_see={Role.ADMIN, Role.AUDITOR})
        keys = [SshKey(name, each, certificate_authority=False) for each in known.keys]
        return keys + [SshKey(name, each, certificate_authority=True) for each in _held(tx, known, authority=True)]

    def remove(self, tx: Transaction, name: str, fingerprint: str, by: Caller) -> SshKey:
        """Remove a key or CA, and close the sessions opened with it. Raises `OperatorNotFound`, `SshKeyNotFound`."""
        known = self._visible(tx, name, by, all_see={Role.ADMIN})
        for authority in (False, True):
            held = _held(tx, known, authority=authority)
            gone = next((each for each in held if each.key.fingerprint == fingerprint), None)
            if gone is None:
                continue
            left = [each for each in held if each is not gone]
            if authority:
                tx.operators.set_ssh_authorities(known.person_uid, left)
            else:
                tx.operators.set_keys(known.person_uid, left)
                tx.bump_config()
            close_sessions(tx, known.person_uid, {fingerprint}, self.now(), str(by))
            return SshKey(name, gone, authority)
        raise errors.SshKeyNotFound(
            f"{name!r} has no key {fingerprint[:80]!a}", metadata={"fingerprint": fingerprint[:80]}
        )

    def _visible(self, tx: Transaction, name: str, by: Caller, *, all_see: set[Role]) -> Operator:
        known = tx.operators.find(name)
        if known is None or (by.role not in all_see and known.person_uid != by.person_uid):
            raise errors.OperatorNotFound(f"there is no person {name[:80]!a}", metadata={"name": name[:80]})
        return known


def _held(tx: Transaction, person: Operator, *, authority: bool) -> tuple[RegisteredKey, ...]:
    return tuple(tx.operators.ssh_authorities(person.person_uid)) if authority else person.keys
