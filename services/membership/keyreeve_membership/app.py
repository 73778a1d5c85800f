"""The composition root: what the process of the service is built from, with every concrete class named here."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from keyreeve import aio
from keyreeve.membership.v1 import (
    array_service_pb2,
    bundle_service_pb2,
    member_service_pb2,
    rotation_service_pb2,
    setting_service_pb2,
)
from keyreeve_chassis.changes.shared_reads import SharedReads
from keyreeve_chassis.database.ports import Store
from keyreeve_chassis.database.storage import DatabaseContext, DatabaseStorage
from keyreeve_chassis.guard.router import ServedService
from keyreeve_chassis.operations.ports import Operation
from keyreeve_chassis.operations.steps import Step
from keyreeve_chassis.processes.solo import solo_role
from keyreeve_chassis.service import Jobs, ServiceSpec
from keyreeve_membership.authorities.ca_client import CaServiceAuthorities
from keyreeve_membership.authorities.ports import ArrayAuthorities
from keyreeve_membership.changes.joining import Joining
from keyreeve_membership.changes.leaving import Leaving
from keyreeve_membership.changes.progress import PUBLISH, must_succeed
from keyreeve_membership.changes.publishing import Publishing
from keyreeve_membership.changes.quarantine import QUARANTINE, Quarantine
from keyreeve_membership.changes.removing import REMOVE, Removing
from keyreeve_membership.changes.service import CLEAN, DETACH, DISSOLVE, JOIN, Changes
from keyreeve_membership.configuration import servicer as setting_servicer
from keyreeve_membership.configuration.service import Configuration
from keyreeve_membership.epochs import servicer as bundle_servicer
from keyreeve_membership.epochs.ports import EPOCHS
from keyreeve_membership.metrics import show_roll
from keyreeve_membership.peers.dialing import PeerDialer
from keyreeve_membership.peers.ports import PeerChecks
from keyreeve_membership.renewals.pacing import Pace
from keyreeve_membership.roll import array_servicer, member_servicer
from keyreeve_membership.roll.ports import MEMBERS
from keyreeve_membership.roll.service import Roll
from keyreeve_membership.rotations import servicer as rotation_servicer
from keyreeve_membership.rotations.ports import ROTATIONS
from keyreeve_membership.rotations.service import START, Rotations
from keyreeve_membership.rotations.steps import RotationSteps
from keyreeve_membership.settings import MembershipSettings
from keyreeve_membership.store.schema import SCHEMA
from keyreeve_membership.store.sql import MembershipTransaction

STORAGE = DatabaseStorage[MembershipSettings, MembershipTransaction](SCHEMA, MembershipTransaction)
MembershipContext = DatabaseContext[MembershipSettings, MembershipTransaction]


@dataclass(frozen=True)
class Membership:
    """The service over its ports to other services."""

    authorities: Callable[[MembershipContext], ArrayAuthorities]
    peers: Callable[[MembershipContext, ArrayAuthorities], PeerChecks]
    now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000
    """Milliseconds since 1970."""

    def routers(self, context: MembershipContext) -> Sequence[ServedService]:
        """Its RPC services."""
        roll, authorities = Roll(context.now), self.authorities(context)
        store, mutations, pages = context.store, context.mutations, context.pages
        assert context.trust is not None, "the service has trust tables"
        refuse, rotations = context.trust.refuse, self._rotations(context)
        configuration = Configuration(context.settings.roll.report_seconds)
        changes = Changes(context.now, self.now_ms, context.settings.roll.lost_seconds)
        return [
            ServedService(
                array_service_pb2.DESCRIPTOR.services_by_name["ArrayService"],
                array_servicer.ArrayServicer(roll, changes, rotations, authorities, store, mutations, pages, refuse),
                array_servicer.ACCESS,
            ),
            ServedService(
                member_service_pb2.DESCRIPTOR.services_by_name["MemberService"],
                member_servicer.MemberServicer(
                    roll,
                    Quarantine(authorities, context.now),
                    Removing(authorities, context.now),
                    authorities,
                    store,
                    mutations,
                    pages,
                    SharedReads(store, context.topics, MEMBERS),
                    configuration,
                    Pace(context.settings.roll.certificates_per_second, time.monotonic),
                    self.now_ms,
                    refuse,
                ),
                member_servicer.ACCESS,
            ),
            ServedService(
                bundle_service_pb2.DESCRIPTOR.services_by_name["BundleService"],
                bundle_servicer.BundleServicer(
                    store,
                    pages,
                    SharedReads(store, context.topics, EPOCHS),
                    SharedReads(store, context.topics, EPOCHS, MEMBERS),
                ),
                bundle_servicer.ACCESS,
            ),
            ServedService(
                rotation_service_pb2.DESCRIPTOR.services_by_name["RotationService"],
                rotation_servicer.RotationServicer(
                    roll, rotations, store, mutations, pages, SharedReads(store, context.topics, ROTATIONS), refuse
                ),
                rotation_servicer.ACCESS,
            ),
            ServedService(
                setting_service_pb2.DESCRIPTOR.services_by_name["SettingService"],
                setting_servicer.SettingServicer(configuration, store, mutations, refuse),
                setting_servicer.ACCESS,
            ),
        ]

    def jobs(self, context: MembershipContext) -> Jobs:
        """Its background work: one process at a time carries out what was begun, under one lease."""
        authorities = self.authorities(context)
        peers, now = self.peers(context, authorities), context.now
        joining = Joining(authorities, peers, now, context.settings.roll.join_seconds)
        leaving = Leaving(authorities, Roll(now), now)
        rotating = RotationSteps(self._rotations(context), authorities, peers, now)
        steps: dict[str, Step[MembershipTransaction]] = {
            JOIN: joining.step,
            **dict.fromkeys((DETACH, DISSOLVE, CLEAN), leaving.step),
            START: rotating.step,
            PUBLISH: Publishing(authorities, now).step,
            QUARANTINE: Quarantine(authorities, now).step,
            REMOVE: Removing(authorities, now).step,
        }
        assert context.trust is not None, "the service has trust tables"
        steps = {method: _unless_altered(context.trust.refuse, step) for method, step in steps.items()}
        return [replace(context.operation_runner(steps), undoing=frozenset(steps)).run(), show_roll(context.store)]

    def _rotations(self, context: MembershipContext) -> Rotations:
        return Rotations(context.now, self.now_ms, context.settings.roll.lost_seconds)

    def spec(self) -> ServiceSpec[MembershipSettings, Any]:
        """What the service says about itself."""
        return ServiceSpec(
            "membership",
            MembershipSettings,
            (solo_role(STORAGE),),
            jobs=self.jobs,
            routers=self.routers,
            schema=STORAGE,
            look=STORAGE.look,
        )


def _unless_altered(refuse: Callable[[], None], step: Step[MembershipTransaction]) -> Step[MembershipTransaction]:
    """Have a step wait while another has written into the roll: nothing is ordered from the CA on such facts."""

    async def guarded(store: Store[MembershipTransaction], operation: Operation) -> float:
        with must_succeed():
            refuse()
        return await step(store, operation)

    return guarded


def ca_authorities(context: MembershipContext) -> CaServiceAuthorities:
    """The CAs of arrays, with the service's own certificate as the caller."""
    return CaServiceAuthorities(aio.Client(context.identity.context))


def peer_dialer(context: MembershipContext, authorities: ArrayAuthorities) -> PeerDialer:
    """Checks of peer ports, with certificates of the arrays' CAs."""
    return PeerDialer(authorities, context.settings.trust_domain)


SPEC = Membership(ca_authorities, peer_dialer).spec()
