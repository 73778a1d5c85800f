"""Handlers of the CA's local admin socket, for root and the CA's own user."""

import logging
from dataclasses import dataclass
from typing import Any

from keyreeve.audit.record import Pairs
from keyreeve.enrollment_token import EnrollmentToken
from keyreeve.identity import Role
from keyreeve_ca.authorities.recovery import Recovery
from keyreeve_ca.enrollment.ports import StoredToken
from keyreeve_ca.enrollment.tokens import EnrollmentTokens
from keyreeve_ca.halt.service import HaltState, HaltSwitch
from keyreeve_ca.issuance.context import CaContext
from keyreeve_ca.issuance.serving_certificate import service_caller
from keyreeve_ca.operators.first_operator import FirstOperator
from keyreeve_ca.operators.ports import Actor
from keyreeve_ca.store.ports import Transaction
from keyreeve_chassis.audit.trail import CallRecord, Trail
from keyreeve_chassis.idempotency.mutation import committed_with
from keyreeve_chassis.local_admin.client import RECOVER_TRUST_TABLES
from keyreeve_chassis.local_admin.socket import RecordedHandlers
from keyreeve_chassis.processes import ipc
from keyreeve_chassis.trust_tables.recovery import recover_trust_tables

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LocalSocket:
    """The handlers, by the names that `local_admin` uses."""

    base: CaContext
    trail: Trail
    first_operator: FirstOperator
    recovery: Recovery
    tokens: EnrollmentTokens
    halt_switch: HaltSwitch

    def table(self) -> dict[str, ipc.Handler]:
        """Handlers by name."""
        settings = self.base.settings
        recorded = RecordedHandlers(self.trail, service_caller(settings.trust_domain, settings.instance))
        return {
            "first_operator": recorded.handler("first_operator", self._admit),
            "recover": recorded.handler("recover", self._recover),
            "service_token": recorded.handler("service_token", self._service_token),
            "resume_issuance": recorded.handler("resume_issuance", self._resume_issuance),
            RECOVER_TRUST_TABLES: recorded.handler(RECOVER_TRUST_TABLES, self._recover_trust_tables),
        }

    async def _admit(self, payload: Any, record: CallRecord) -> object:  # noqa: ANN401  # plain values
        record.tell("name", str(payload["name"]))
        return await self.first_operator.admit(payload["name"], payload["csr"])

    async def _recover(self, payload: Any, record: CallRecord) -> object:  # noqa: ANN401  # plain values
        report = await self.recovery.run()
        await self.base.live.reload()
        log.warning("recovered, as the local socket was asked: %s", report)
        for made in report.replacements:
            record.tell("made", made.authority)
            record.tell("expired", ", ".join(made.expired))
        for hierarchy in report.dead_hierarchies:
            record.tell("dead", hierarchy)
        document = report.document()
        name = payload["operator"]
        if name is not None:
            record.tell("name", str(name))
            by = str(service_caller(self.base.settings.trust_domain, self.base.settings.instance))

            def invite(tx: Transaction) -> EnrollmentToken:
                person = self.tokens.operators.admit(tx, name, by)
                stored, token = self.tokens.for_person(tx, person, by, str(payload["address"]))
                tx.audit.append(record.of_success(_naming(stored)))
                return token

            token = await committed_with(record, self.base.store.write(invite))
            await self.first_operator.seen()
            log.warning("made a token for the admin %r, as the local socket was asked", name)
            document["invitation"] = {"name": name, "token": token.text(), "expires_at": token.expires_at}
        return document

    async def _recover_trust_tables(self, payload: Any, record: CallRecord) -> object:  # noqa: ANN401  # plain values
        """Show what is altered, or seal the tables anew and have every process read them."""
        base = self.base
        report = await recover_trust_tables(base.store, base.trust, payload, record, sealed=lambda tx: tx.bump_config())
        await base.live.refresh()
        return report

    async def _resume_issuance(self, payload: Any, record: CallRecord) -> object:  # noqa: ANN401  # plain values
        """Resume halted issuance without a second person: a new control plane has none who has been known for long."""
        settings, reason = self.base.settings, str(payload["reason"])
        record.tell("reason", reason)
        caller = str(service_caller(settings.trust_domain, settings.instance))

        def resume(tx: Transaction) -> HaltState:
            state = self.halt_switch.resume(tx, Actor(caller, caller), reason, alone=True)
            tx.audit.append(record.of_success())
            return state

        state = await committed_with(record, self.base.store.write(resume))
        log.warning("resumed issuance, as the local socket was asked: %s", reason)
        return {"resumed_at": state.resumed_at, "reason": reason}

    async def _service_token(self, payload: Any, record: CallRecord) -> object:  # noqa: ANN401  # plain values
        settings = self.base.settings
        identity = f"spiffe://{settings.trust_domain}/services/{payload['service']}/{payload['instance']}"
        record.tell("identity", identity)

        def create(tx: Transaction) -> EnrollmentToken:
            stored, token = self.tokens.create(
                tx,
                creator=str(service_caller(settings.trust_domain, settings.instance)),
                creator_role=Role.CA,
                identity=identity,
                address=str(payload["address"]),
            )
            tx.audit.append(record.of_success(_naming(stored)))
            return token

        token = await committed_with(record, self.base.store.write(create))
        log.warning("made an enrollment token for %s, as the local socket was asked", identity)
        return {"identity": identity, "token": token.text(), "expires_at": token.expires_at}


def _naming(token: StoredToken) -> Pairs:
    return (("token", f"enrollmentTokens/{token.token_id.hex()}"),)
