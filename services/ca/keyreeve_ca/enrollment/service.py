"""Using an enrollment token: both sides prove that they know its secret, and its holder gets the certificate it names.

The order matters (docs/protocols.md): nothing that the enrollee sent is parsed before its proof has been checked; the
request's own proof and the policy come next, so that a bad request does not use the token up; then one statement binds
the token to the key, and only then is anything signed. An unknown token id is refused at once: ids are random, so knowing
that one exists is of no use without its secret. What is wrong with a token is told only after the proof of its secret.
"""

import hmac
import logging
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from keyreeve import errors
from keyreeve.enrollment_token import CLOCK_SKEW_SECONDS, RETRY_SECONDS, SERVER, EnrollmentKeys, Transcript
from keyreeve.identity import Caller, Role, SpiffeId, service_dns_name
from keyreeve.values import Hierarchy
from keyreeve_ca.enrollment.ports import StoredToken, TokenState
from keyreeve_ca.enrollment.rules import names_of, profile_of, read_identity
from keyreeve_ca.enrollment.tokens import KIND, not_open
from keyreeve_ca.halt.service import issuance_halted
from keyreeve_ca.issuance.policy import check_requester, plan_certificate
from keyreeve_ca.issuance.service import Issuance, LedgerEntry, Prepared, SignItem, SignRequest
from keyreeve_ca.issuance.snapshot import IssuanceSnapshot
from keyreeve_ca.ledger.ports import AuditRecord, Rpc
from keyreeve_ca.requests.csr import CertificateRequest, check_possession, read_csr
from keyreeve_ca.store.ports import Store
from keyreeve_chassis.keys.ports import KeyStore

METHOD = "/keyreeve.ca.v1.EnrollmentService/Enroll"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Hello:
    """The enrollee's first message."""

    token_id: bytes
    client_nonce: bytes
    client_time: int
    release: str


@dataclass(frozen=True, slots=True)
class Session:
    """One enrollment after its challenge."""

    transcript: Transcript
    keys: EnrollmentKeys
    server_mac: bytes
    token: StoredToken


@dataclass(frozen=True, slots=True)
class EnrollmentResult:
    """What the enrollee receives."""

    chain_der: tuple[bytes, ...]
    trust_root: bytes
    result_mac: bytes
    roots_der: tuple[bytes, ...]
    roots_mac: bytes


class TokenSteps(Protocol):
    """The durable steps of an enrollment: direct on PostgreSQL, by the coordinator on SQLite."""

    async def bind(self, token_id: bytes, spki_sha256: bytes) -> bool:
        """Bind an open token to a key; False when it was not open. Raises `KeyReused`."""
        ...

    async def issued(self, token_id: bytes, serial: bytes) -> None:
        """Record the certificate of a bound token."""
        ...

    async def close(self, serial: bytes) -> bool:
        """Close the token of a certificate; False when no bound one exists."""
        ...


@dataclass(frozen=True)
class Enrollment:
    """The use case behind `Enroll`."""

    store: Store
    steps: TokenSteps
    issuance: Issuance
    keystore: KeyStore
    trust_root: bytes
    alert: Callable[[StoredToken], None]
    """Called when a second key comes with a token's secret: the secret has leaked."""
    has_one_key: Callable[[StoredToken], bool]
    """Whether the token's identity has one key at a time: a certificate of another one is revoked once it has this one."""
    revoke: Callable[[bytes], Awaitable[None]]
    """Revokes a replaced certificate, and those that renewed it, if it is still valid."""
    now: Callable[[], int]
    random: Callable[[int], bytes] = os.urandom

    async def challenge(self, hello: Hello) -> Session:
        """Answer a hello. Raises `TokenRefused` for an unknown id or a token whose keys were erased."""
        token = await self.store.read(lambda tx: tx.tokens.get(hello.token_id))
        if token is None or token.sealed_keys is None:
            raise _token_refused()
        keys = EnrollmentKeys.read(self.keystore.unseal(KIND, token.token_id.hex(), token.sealed_keys))
        trust_domain = self.issuance.snapshot().trust_domain
        transcript = Transcript(
            trust_domain=trust_domain,
            root_sha256=token.root_sha256,
            server_name=service_dns_name(SERVER, trust_domain),
            token_id=hello.token_id,
            client_nonce=hello.client_nonce,
            client_time=hello.client_time,
            release=hello.release,
            server_nonce=self.random(32),
            server_time=self.now(),
            name=token.identity,
            trust_root=self.trust_root,
        )
        return Session(transcript, keys, transcript.server_mac(keys), token)

    async def result(
        self, session: Session, csr: bytes, client_mac: bytes, record: AuditRecord | None = None
    ) -> EnrollmentResult:
        """Check the enrollee's proof, and issue its certificate once. Raises the reasons of `Enroll`."""
        transcript, token = session.transcript, session.token
        expected = transcript.client_mac(session.keys, session.server_mac, csr)
        if not hmac.compare_digest(client_mac, expected):
            raise _token_refused()
        if record is not None:
            record.tell("token", f"enrollmentTokens/{token.token_id.hex()}")
            record.tell("identity", token.identity)
        _check_clocks(transcript)
        request = read_csr(csr)
        check_possession(request)
        token = await self._as_it_is_now(token)
        self._refuse_unless_usable(token, request.spki_sha256)
        item = SignItem(profile_of(_role_of(token)), csr, names_of(SpiffeId.parse(token.identity)))
        repeated = token.state is not TokenState.OPEN
        if not repeated:
            # Neither a refused request nor a halt uses the token up.
            self._prepare(item, self.issuance.snapshot(), self.now())
            if (since := self.issuance.snapshot().halted_since) is not None:
                raise issuance_halted(since)
            if not await self.steps.bind(token.token_id, request.spki_sha256):
                token = await self._again(token)
                self._refuse_unless_usable(token, request.spki_sha256)
        entry = await self._certificate(token, item, request, record)
        if self.has_one_key(token):
            for serial in await self.store.read(lambda tx: tx.tokens.replaced(token.token_id, repeated=repeated)):
                await self.revoke(serial)
        chain = (entry.der, self.issuance.snapshot().authority(entry.authority_id).certificate_der)
        roots = tuple(root.certificate_der for root in self.issuance.snapshot().roots(Hierarchy.CONTROL))
        return EnrollmentResult(
            chain_der=chain,
            trust_root=self.trust_root,
            result_mac=transcript.result_mac(session.keys, client_mac, chain),
            roots_der=roots,
            roots_mac=transcript.roots_mac(session.keys, client_mac, roots),
        )

    def _refuse_unless_usable(self, token: StoredToken, spki_sha256: bytes) -> None:
        """Raise unless the token is open, or was bound to this very key a short time ago."""
        if token.state is TokenState.OPEN and token.expires_at > self.now():
            return
        if token.state is not TokenState.BOUND:
            raise not_open(token)
        assert token.bound_at is not None, "it is bound"
        if token.spki_sha256 != spki_sha256:
            self.alert(token)
            raise not_open(token)
        if self.now() - token.bound_at >= RETRY_SECONDS:
            raise not_open(token)

    async def _as_it_is_now(self, token: StoredToken) -> StoredToken:
        """Read a token again: much can have happened since its challenge."""
        found = await self.store.read(lambda tx: tx.tokens.get(token.token_id, current=True))
        if found is None:
            raise _token_refused()
        return found

    async def _again(self, token: StoredToken) -> StoredToken:
        found = await self._as_it_is_now(token)
        if found.state is TokenState.OPEN and found.expires_at > self.now():
            raise errors.StoreUnavailable("the token changed while it was used; repeat the enrollment")
        return found

    async def _certificate(
        self, token: StoredToken, item: SignItem, request: CertificateRequest, record: AuditRecord | None
    ) -> LedgerEntry:
        """The token's one certificate.

        The request id is the token, so a repeat gets the ledger's stored answer.
        """
        serial = token.serial
        if serial is not None:
            stored = await self.store.read(lambda tx: tx.certificates_by_serial([serial]))
            return stored[serial]
        maker = SpiffeId.parse(token.creator)
        assert maker.role is not None, "it was a caller"
        [outcome] = await self.issuance.sign(
            SignRequest(
                caller=Caller(maker, maker.role, serial=0),
                origin=Rpc(METHOD, token.token_id),
                request_id=token.token_id.hex(),
                payload_sha256=request.spki_sha256,
                items=(item,),
                record=record,
                prepare=self._prepare,
            )
        )
        if isinstance(outcome, errors.KeyreeveError):
            raise outcome
        await self.steps.issued(token.token_id, outcome.serial)
        return outcome

    @staticmethod
    def _prepare(item: SignItem, snapshot: IssuanceSnapshot, now: int) -> Prepared:
        version = snapshot.profile(item.profile)
        check_requester(version, Role.CA)
        csr = read_csr(item.csr)
        foreign = [name for name in csr.names if name not in item.names]
        if foreign:
            raise errors.NameRefused(
                "the identity comes from the token, and the request asks for another name",
                violations=[
                    errors.Violation("csr.subject_alternative_name", f"{name} is not the token's") for name in foreign
                ],
            )
        issuing = snapshot.issuing_authority(version, None)
        plan = plan_certificate(
            version,
            csr,
            extra_names=[name for name in item.names if name not in csr.names],
            lifetime=None,
            now=now,
            issuer=issuing.issuer,
            trust_domain=snapshot.trust_domain,
            known=snapshot.known_keys,
        )
        return Prepared(plan, csr, issuing, item)


def _token_refused() -> errors.KeyreeveError:
    return errors.TokenRefused("no enrollment token that can be used is known by this id and secret")


def _role_of(token: StoredToken) -> Role:
    _, role = read_identity(token.identity, SpiffeId.parse(token.identity).trust_domain)
    return role


def _check_clocks(transcript: Transcript) -> None:
    skew = transcript.client_time - transcript.server_time
    if abs(skew) > CLOCK_SKEW_SECONDS:
        raise errors.ClockSkewed(
            f"your clock is {abs(skew)} s {'ahead of' if skew > 0 else 'behind'} the service's",
            metadata={"client_time": str(transcript.client_time), "server_time": str(transcript.server_time)},
        )
