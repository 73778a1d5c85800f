"""The composition root: what the process of the service is built from, with every concrete class named here."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from keyreeve import aio
from keyreeve.membership.v1 import array_service_pb2, bundle_service_pb2, member_service_pb2, rotation_service_pb2
from keyreeve_chassis.database.storage import DatabaseContext, DatabaseStorage
from keyreeve_chassis.guard.router import ServedService
from keyreeve_chassis.processes.solo import solo_role
from keyreeve_chassis.service import ServiceSpec
from keyreeve_membership.authorities.ca_client import CaServiceAuthorities
from keyreeve_membership.authorities.ports import ArrayAuthorities
from keyreeve_membership.epochs import servicer as bundle_servicer
from keyreeve_membership.epochs.ports import EPOCHS
from keyreeve_membership.roll import array_servicer, member_servicer
from keyreeve_membership.roll.ports import MEMBERS
from keyreeve_membership.roll.service import Roll
from keyreeve_membership.rotations import servicer as rotation_servicer
from keyreeve_membership.settings import MembershipSettings
from keyreeve_membership.store.schema import SCHEMA
from keyreeve_membership.store.sql import MembershipTransaction

STORAGE = DatabaseStorage[MembershipSettings, MembershipTransaction](SCHEMA, MembershipTransaction)
MembershipContext = DatabaseContext[MembershipSettings, MembershipTransaction]


@dataclass(frozen=True)
class Membership:
    """The service over its ports to other services."""

    authorities: Callable[[MembershipContext], ArrayAuthorities]
    now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000
    """Milliseconds since 1970."""

    def routers(self, context: MembershipContext) -> Sequence[ServedService]:
        """Its RPC services."""
        roll, authorities = Roll(context.now), self.authorities(context)
        return [
            ServedService(
                array_service_pb2.DESCRIPTOR.services_by_name["ArrayService"],
                array_servicer.ArrayServicer(roll, authorities, context.store, context.mutations, context.pages),
                array_servicer.ACCESS,
            ),
            ServedService(
                member_service_pb2.DESCRIPTOR.services_by_name["MemberService"],
                member_servicer.MemberServicer(
                    roll,
                    authorities,
                    context.store,
                    context.mutations,
                    context.pages,
                    partial(context.topics.follower, MEMBERS),
                    context.settings.roll.report_seconds,
                    self.now_ms,
                ),
                member_servicer.ACCESS,
            ),
            ServedService(
                bundle_service_pb2.DESCRIPTOR.services_by_name["BundleService"],
                bundle_servicer.BundleServicer(context.store, context.pages, partial(context.topics.follower, EPOCHS)),
                bundle_servicer.ACCESS,
            ),
            ServedService(
                rotation_service_pb2.DESCRIPTOR.services_by_name["RotationService"],
                rotation_servicer.RotationServicer(roll, context.store),
                rotation_servicer.ACCESS,
            ),
        ]

    def spec(self) -> ServiceSpec[MembershipSettings, Any]:
        """What the service says about itself."""
        return ServiceSpec(
            "membership",
            MembershipSettings,
            (solo_role(STORAGE),),
            routers=self.routers,
            schema=STORAGE,
            look=STORAGE.look,
        )


def ca_authorities(context: MembershipContext) -> CaServiceAuthorities:
    """The CAs of arrays, with the service's own certificate as the caller."""
    return CaServiceAuthorities(aio.Client(context.identity.context))


SPEC = Membership(ca_authorities).spec()
