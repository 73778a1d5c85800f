"""The newcomer's listener of a worker, put together: its own port, its own certificate, and `Enrol` alone."""

import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from prometheus_client import Counter

from keyreeve.ca.v1 import enrolment_service_pb2
from keyreeve.enrolment_token import SERVER
from keyreeve_ca.app import Foundation
from keyreeve_ca.catalogue import Catalogue
from keyreeve_ca.enrolment import Decoys, Enrolment, TokenSteps, root_sha256
from keyreeve_ca.own_certificate import OwnCertificate, pem
from keyreeve_ca.serving import newcomer_servicer
from keyreeve_ca.token_rows import StoredToken
from keyreeve_chassis.audit.trail import Trail
from keyreeve_chassis.limits import PerAddress
from keyreeve_chassis.open_server import start_open_server
from keyreeve_chassis.router import Router, ServedService
from keyreeve_chassis.telemetry.calls import CallTelemetry
from keyreeve_chassis.tls import LiveServerCredentials, ServerIdentity

PROFILE = "enrolment"
_MOST_REPORTED = 1024
_SECOND_KEYS = Counter(
    "keyreeve_ca_enrolment_second_keys_total", "Second keys that came with a used token's secret: each is an alarm."
)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Newcomers:
    """What a worker needs to serve newcomers; `certificate` must have been renewed once."""

    base: Foundation
    steps: TokenSteps
    trust_root: bytes
    certificate: OwnCertificate

    @classmethod
    def of(cls, base: Foundation, steps: TokenSteps, trust_root: bytes, instance: str) -> "Newcomers":
        """The listener's parts, with a certificate that is still to be issued."""
        certificate = OwnCertificate(
            base.issuance,
            base.live.current,
            base.live.changed_since,
            instance,
            base.now,
            profile=PROFILE,
            server=SERVER,
            of_newest=True,  # tokens name the root of the newest authority, so the listener has to lead to that
        )
        return cls(base, steps, trust_root, certificate)

    def keep_fresh(self) -> Coroutine[Any, Any, None]:
        """Background work: the listener's certificate."""
        return self.certificate.keep_fresh()

    @asynccontextmanager
    async def serving(
        self, endpoints: Callable[[], Mapping[str, str]], telemetry: CallTelemetry, trail: Trail
    ) -> AsyncIterator[int]:
        """Listen until the context ends; its value is the port."""
        base, settings = self.base, self.base.settings.enrol
        servicer = newcomer_servicer.NewcomerServicer(
            Enrolment(
                store=base.store,
                steps=self.steps,
                issuance=base.issuance,
                keystore=base.keystore,
                trust_root=self.trust_root,
                root_sha256=lambda: root_sha256(base.live.current()),
                alert=Alarm(),
                now=base.now,
                decoys=Decoys.of_store(base.keystore),
            ),
            PerAddress(settings.calls_per_address, settings.calls_per_second, settings.calls_at_once),
            endpoints,
        )
        service = ServedService(
            enrolment_service_pb2.DESCRIPTOR.services_by_name["EnrolmentService"],
            servicer,
            newcomer_servicer.ACCESS,
            elsewhere=newcomer_servicer.ELSEWHERE,
        )
        running = await start_open_server(
            settings.serving(),
            Router([service]),
            LiveServerCredentials(partial(_identity, self.certificate, base.live.current)),
            most_connections=settings.connections,
            telemetry=telemetry,
            trail=trail,
        )
        try:
            yield running.port
        finally:
            await running.stop(base.settings.drain_seconds)


def _identity(certificate: OwnCertificate, catalogue: Callable[[], Catalogue]) -> ServerIdentity:
    """The listener shows its root too: the newcomer knows it by its digest alone."""
    current = certificate.current
    assert current is not None, "it was issued before the listener starts"
    issuing = catalogue().authority(current.authority_id)
    root = pem(catalogue().authority(issuing.issuer_id).certificate_der)
    return ServerIdentity(current.chain_pem + root, current.key_pem, root)


class Alarm:
    """Reports a second key for a token: counts each, and logs one for each token, so that nobody floods the log."""

    def __init__(self) -> None:
        self._reported: OrderedDict[bytes, None] = OrderedDict()

    def __call__(self, token: StoredToken) -> None:
        """Take note of one more."""
        _SECOND_KEYS.inc()
        if token.token_id in self._reported:
            return
        self._reported[token.token_id] = None
        if len(self._reported) > _MOST_REPORTED:
            self._reported.popitem(last=False)
        log.error(
            "a second key came with the secret of %s for %s: somebody has it who should not",
            token.resource,
            token.identity,
        )
