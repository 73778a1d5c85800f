"""Making, revoking and tidying enrollment tokens. What happens when one is used stands in `enrollment`.

The secret of a token exists only in the answer to its creator: what is stored is three keys derived
from it, sealed by the key store. A repeated request therefore cannot be answered with the same text: the token gets a
fresh secret instead, as long as it has not been used.
"""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass

from keyreeve import errors
from keyreeve.enrollment_token import EnrollmentKeys, EnrollmentToken, is_address
from keyreeve.identity import OPERATOR_ROLES, Role, SpiffeId
from keyreeve_ca.enrollment.ports import StoredToken, TokenState
from keyreeve_ca.enrollment.rules import check_lifetime, check_may_let_in, read_identity
from keyreeve_ca.issuance.snapshot import IssuanceSnapshot
from keyreeve_ca.operators.ports import Operator
from keyreeve_ca.operators.service import Operators
from keyreeve_ca.store.ports import CertificateFilter, Transaction
from keyreeve_chassis.keys.ports import KeyStore

KIND = "enrolment token"
"""What the sealed keys are, to the key store."""


@dataclass(frozen=True)
class EnrollmentTokens:
    """The use cases around tokens. Every method runs in the caller's transaction."""

    keystore: KeyStore
    trust_domain: str
    snapshot: Callable[[], IssuanceSnapshot]
    """The newest one: its enrollment root is what a token pins."""
    address: str | None
    """`host:port` of that listener as enrollees know it; None when there is none."""
    now: Callable[[], int]
    random: Callable[[int], bytes] = os.urandom
    two_persons: bool = False
    """Whether inviting an admin takes two persons."""

    @property
    def operators(self) -> Operators:
        """The people, of whose records tokens may speak."""
        return Operators(self.trust_domain, self.now, self.random, self.two_persons)

    def create(
        self,
        tx: Transaction,
        *,
        creator: str,
        creator_role: Role,
        identity: str,
        lifetime: int | None = None,
        address: str = "",
    ) -> tuple[StoredToken, EnrollmentToken]:
        """Create a token for one identity, `lifetime` in seconds; return it with its secret, which is shown once.

        Raises `NameRefused`, `TokenNotAllowed`, `FieldInvalid`, `EnrollmentOff`.
        """
        wanted, role = read_identity(identity, self.trust_domain)
        check_may_let_in(creator_role, role)
        if creator_role is Role.OPERATOR:  # who enrolls members and workloads
            self._refuse_second_holder(tx, str(wanted), role)
        seconds = check_lifetime(lifetime)
        reached = self._reached(address)
        if role in OPERATOR_ROLES:  # every token for a person is an invitation
            self.operators.invite(tx, wanted.path[-1], role, creator)
        return self._make(tx, wanted, creator, seconds, reached)

    def _refuse_second_holder(self, tx: Transaction, identity: str, role: Role) -> None:
        """Raise `TokenNotAllowed` when an identity has a certificate or a token: its holder renews, or an admin decides."""
        now = self.now()
        held = CertificateFilter(identity=identity, valid_at=now, revoked=False)
        if tx.certificates(held, after=b"", limit=1) or tx.tokens.any_for(identity, now):
            raise errors.TokenNotAllowed(
                f"{identity} has a certificate or a token already; only an admin may enroll another holder",
                metadata={"wanted": role.value, "allowed": Role.ADMIN.value},
            )

    def for_person(
        self, tx: Transaction, person: Operator, creator: str, address: str = ""
    ) -> tuple[StoredToken, EnrollmentToken]:
        """Create a token for an operator with a record; return it with its secret. Raises `EnrollmentOff`."""
        identity = person.identity(self.trust_domain)
        return self._make(tx, identity, creator, check_lifetime(None), self._reached(address))

    def _make(
        self, tx: Transaction, wanted: SpiffeId, creator: str, seconds: int, reached: str
    ) -> tuple[StoredToken, EnrollmentToken]:
        now = self.now()
        token_id = (now * 1000).to_bytes(6) + self.random(10)
        root_sha256 = hashlib.sha256(self.snapshot().enrollment_root()).digest()
        shown = EnrollmentToken(token_id, self.random(32), root_sha256, now + seconds, wanted, reached)
        stored = StoredToken(
            token_id=token_id,
            identity=str(wanted),
            creator=creator,
            root_sha256=root_sha256,
            sealed_keys=self._sealed(shown),
            state=TokenState.OPEN,
            created_at=now,
            expires_at=shown.expires_at,
        )
        tx.tokens.add(stored)
        return stored, shown

    def renew_secret(self, tx: Transaction, token_id: bytes, address: str = "") -> EnrollmentToken:
        """Give an unused token a new secret; the old one stops working.

        Raises `TokenNotFound`, `TokenUsed`, `TokenExpired`, `TokenRevoked`.
        """
        token = self.find(tx, token_id)
        wanted, _ = read_identity(token.identity, self.trust_domain)
        shown = EnrollmentToken(
            token_id, self.random(32), token.root_sha256, token.expires_at, wanted, self._reached(address)
        )
        if not tx.tokens.rekey(token_id, self._sealed(shown), self.now()):
            raise not_open(token)
        return shown

    def revoke(self, tx: Transaction, token_id: bytes, revoker: Role) -> StoredToken:
        """Revoke a token. Raises `TokenNotFound`, `TokenNotAllowed`, `TokenUsed`."""
        token = self.find(tx, token_id)
        _, role = read_identity(token.identity, self.trust_domain)
        check_may_let_in(revoker, role)
        if not tx.tokens.revoke(token_id, self.now()) and token.state is not TokenState.REVOKED:
            raise not_open(token)
        return self.find(tx, token_id)

    def find(self, tx: Transaction, token_id: bytes) -> StoredToken:
        """Read a token. Raises `TokenNotFound`."""
        token = tx.tokens.get(token_id)
        if token is None:
            raise errors.TokenNotFound(
                f"there is no enrollment token {token_id.hex()}", metadata={"token": token_id.hex()}
            )
        return token

    def _reached(self, address: str) -> str:
        if address and not is_address(address):
            raise errors.FieldInvalid(
                "address: host:port is required", violations=[errors.Violation("address", "host:port is required")]
            )
        reached = address or self.address
        if reached is None:
            raise errors.EnrollmentOff("this control plane has no listener for enrollees")
        return reached

    def _sealed(self, token: EnrollmentToken) -> bytes:
        return self.keystore.seal(KIND, token.token_id.hex(), EnrollmentKeys.of(token.secret, token.token_id).pack())


def not_open(token: StoredToken) -> errors.KeyreeveError:
    """Return why a token cannot be used."""
    metadata = {"token": token.token_id.hex()}
    if token.serial is not None:
        metadata["certificate"] = token.serial.hex()
    match token.state:
        case TokenState.REVOKED:
            return errors.TokenRevoked("the enrollment token was revoked", metadata=metadata)
        case TokenState.OPEN:
            return errors.TokenExpired("the enrollment token was not used in time", metadata=metadata)
    return errors.TokenUsed("the enrollment token has been used", metadata=metadata)
