"""The enrollment listener of a worker: a port and a certificate of its own."""

import logging
import time
import uuid
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from prometheus_client import Counter

from keyreeve.ca.v1 import certificate_service_pb2, crl_reason_pb2, enrollment_service_pb2
from keyreeve.enrollment_token import SERVER
from keyreeve.errors import CertificateExpired
from keyreeve.identity import Caller, SpiffeId
from keyreeve_ca.arrays.expired_renewal import ExpiredRenewal
from keyreeve_ca.enrollment import servicer as enrollee_servicer
from keyreeve_ca.enrollment.ports import StoredToken
from keyreeve_ca.enrollment.service import Enrollment, TokenSteps
from keyreeve_ca.issuance.context import CaContext
from keyreeve_ca.issuance.renewal import Nonces
from keyreeve_ca.issuance.serving_certificate import ServingCertificate, pem, service_caller
from keyreeve_ca.issuance.snapshot import IssuanceSnapshot
from keyreeve_ca.service_accounts.service import LIFETIME_SECONDS, ServiceAccountExchange, TokenReviewer
from keyreeve_chassis.audit.trail import Trail
from keyreeve_chassis.guard.admission import PerAddress
from keyreeve_chassis.guard.call import Call
from keyreeve_chassis.guard.router import Forward, Router, ServedService
from keyreeve_chassis.rpc.limits import ByteBudget
from keyreeve_chassis.rpc.open_server import start_open_server
from keyreeve_chassis.telemetry.calls import CallTelemetry
from keyreeve_chassis.tls import LiveServerCredentials, ServerIdentity

PROFILE = "enrollment"
_MOST_REPORTED = 1024
_CREATE = "/keyreeve.ca.v1.EnrollmentService/CreateEnrollmentToken"
_CREATE_SECONDS = 5.0
_REVOKE = "/keyreeve.ca.v1.CertificateService/RevokeCertificate"
_REPLACED = uuid.UUID("5b0f3d0e-6a52-4c5e-9c1b-5b7f6d2f8a11")
"""Namespace of the request ids with which replaced certificates are revoked: one for each certificate."""
_ACCOUNTS = "service-accounts"
"""The instance in whose name tokens are made for pods."""
_SECOND_KEYS = Counter(
    "keyreeve_ca_enrollment_second_keys_total", "Second keys that came with a used token's secret: each is an alarm."
)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EnrollmentListener:
    """What a worker needs to serve enrollees; renew `certificate` once before serving."""

    base: CaContext
    steps: TokenSteps
    trust_root: bytes
    certificate: ServingCertificate
    change: Forward
    """Runs a mutation of the CA's other listener, in this process or in the coordinator."""
    reviewer: TokenReviewer | None
    """Reviews the ServiceAccount tokens of pods, if the settings name a Kubernetes API server."""

    @classmethod
    def of(
        cls,
        base: CaContext,
        steps: TokenSteps,
        trust_root: bytes,
        instance: str,
        is_revoked: Callable[[int], bool],
        *,
        change: Forward,
        reviewer: TokenReviewer | None,
    ) -> "EnrollmentListener":
        """Build the listener; its certificate is issued later."""
        certificate = ServingCertificate(
            base.issuance,
            base.live.current,
            base.live.changed_since,
            instance,
            base.now,
            profile=PROFILE,
            server=SERVER,
            is_revoked=is_revoked,
            of_newest=True,  # tokens name the root of the newest authority, so the listener has to lead to that
        )
        return cls(base, steps, trust_root, certificate, change, reviewer)

    def keep_fresh(self) -> Coroutine[Any, Any, None]:
        """Background job: renew the listener's certificate."""
        return self.certificate.keep_fresh()

    def _accounts(self) -> ServiceAccountExchange:
        settings = self.base.settings
        kubernetes = settings.enroll.kubernetes
        return ServiceAccountExchange(
            reviewer=self.reviewer,
            services={} if kubernetes is None else kubernetes.accounts,
            audience=(kubernetes and kubernetes.audience) or f"keyreeve:{settings.trust_domain}",
            trust_domain=settings.trust_domain,
            make_token=self._make_token,
        )

    @property
    def _creator(self) -> Caller:
        """The same identity on every replica of the CA, since a request id belongs to its caller."""
        return service_caller(self.base.settings.trust_domain, _ACCOUNTS)

    async def _make_token(self, identity: str, address: str, request_id: str) -> str:
        """Make an enrollment token as the CA: idempotent and audited like everybody's."""
        request = enrollment_service_pb2.CreateEnrollmentTokenRequest(
            identity=identity, address=address, request_id=request_id
        )
        request.lifetime.FromSeconds(LIFETIME_SECONDS)
        call = Call(_CREATE, self._creator, deadline=time.monotonic() + _CREATE_SECONDS)
        response = await self.change(_CREATE, request.SerializeToString(), call)
        return enrollment_service_pb2.CreateEnrollmentTokenResponse.FromString(response).text

    def _is_of_a_pod(self, token: StoredToken) -> bool:
        """Whether a token was made for a pod whose UID is in its identity; a member keeps its name through its pods."""
        identity = SpiffeId.parse(token.identity)
        return token.creator == str(self._creator.id) and identity.path[0] != "members"

    async def _revoke(self, serial: bytes) -> None:
        request = certificate_service_pb2.RevokeCertificateRequest(
            name=f"certificates/{serial.hex()}",
            reason=crl_reason_pb2.CRL_REASON_SUPERSEDED,
            request_id=str(uuid.uuid5(_REPLACED, serial.hex())),
            lineage=True,
        )
        call = Call(_REVOKE, self._creator, deadline=time.monotonic() + _CREATE_SECONDS)
        with suppress(CertificateExpired):
            await self.change(_REVOKE, request.SerializeToString(), call)

    @asynccontextmanager
    async def serving(
        self,
        endpoints: Callable[[], Mapping[str, Sequence[str]]],
        telemetry: CallTelemetry,
        trail: Trail,
        budget: ByteBudget,
    ) -> AsyncIterator[int]:
        """Listen until the context ends; its value is the port. `budget` is that of the process."""
        base, settings = self.base, self.base.settings.enroll
        servicer = enrollee_servicer.EnrollServicer(
            Enrollment(
                store=base.store,
                steps=self.steps,
                issuance=base.issuance,
                keystore=base.keystore,
                trust_root=self.trust_root,
                alert=Alarm(),
                has_one_key=self._is_of_a_pod,
                revoke=self._revoke,
                now=base.now,
            ),
            self._accounts(),
            ExpiredRenewal(
                base.store,
                base.issuance,
                Nonces(base.keystore.derive("renewal nonces"), base.now),
                settings.renew_expired_days * 86_400,
                base.now,
            ),
            PerAddress(settings.calls_per_address, settings.calls_per_second, settings.calls_at_once),
            endpoints,
        )
        service = ServedService(
            enrollment_service_pb2.DESCRIPTOR.services_by_name["EnrollmentService"],
            servicer,
            enrollee_servicer.ACCESS,
            excluded_methods=enrollee_servicer.EXCLUDED_METHODS,
        )
        running = await start_open_server(
            settings.serving(),
            Router([service]),
            LiveServerCredentials(partial(_identity, self.certificate, base.live.current)),
            most_connections=settings.connections,
            budget=budget,
            telemetry=telemetry,
            trail=trail,
            shared=self.base.settings.coordinator_socket.parent,
        )
        try:
            yield running.port
        finally:
            await running.stop(base.settings.drain_seconds)


def _identity(certificate: ServingCertificate, snapshot: Callable[[], IssuanceSnapshot]) -> ServerIdentity:
    """The serving chain with its root: enrollees know only the root's digest."""
    current = certificate.current
    assert current is not None, "it was issued before the listener starts"
    issuing = snapshot().authority(current.authority_id)
    root = pem(snapshot().authority(issuing.issuer_id).certificate_der)
    return ServerIdentity(current.chain_pem + root, current.key_pem, root)


class Alarm:
    """Reports a second key for a token: counts every attempt, logs one per token to bound the log."""

    def __init__(self) -> None:
        self._reported: OrderedDict[bytes, None] = OrderedDict()

    def __call__(self, token: StoredToken) -> None:
        """Report one attempt."""
        _SECOND_KEYS.inc()
        if token.token_id in self._reported:
            return
        self._reported[token.token_id] = None
        if len(self._reported) > _MOST_REPORTED:
            self._reported.popitem(last=False)
        log.error(
            "a second key came with the secret of %s for %s: the secret has leaked",
            f"enrollmentTokens/{token.token_id.hex()}",
            token.identity,
        )
