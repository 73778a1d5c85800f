"""The CA and membership as real processes: what an introduced CA signs, and whom membership refuses within five seconds."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta

import pytest
from cryptography import x509

from keyreeve import Client, Context
from keyreeve.enrollee_files import EnrolleeFiles
from keyreeve.enrollment import enroll
from keyreeve.errors import KeyreeveError
from keyreeve.keys import make_csr, make_key
from keyreeve.membership_values import RotationKind, RotationPhase, Server
from keyreeve.service_files import identity_directory
from keyreeve.values import AuthorityKind, AuthorityState, CrlReason, Hierarchy, Name, OperatorRole
from support.forked_ca import ForkedCa, NewCa, again_and_again, forking_program, new_forked_ca
from support.forked_membership import ForkedMembership, forked_membership
from support.waiting import wait_for

__all__ = ["forking_program", "new_forked_ca"]

pytestmark = pytest.mark.faults
REFUSED_SECONDS = 5.0
SERVER = "web-1.example.test"


@dataclass
class World:
    """Both services, and clients of them."""

    ca: ForkedCa
    replica: ForkedMembership
    admin: Client
    stack: ExitStack

    def client(self, context: Context) -> Client:
        """A client of both services with the identity of a context."""
        endpoints = {"ca": [self.ca.address], "membership": [self.replica.address]}
        return self.stack.enter_context(Client(replace(context, endpoints=endpoints), timeout=10))

    @property
    def membership(self) -> Client:
        """A client with membership's own identity."""
        return self.client(Context.load(EnrolleeFiles(identity_directory(self.replica.state)).context))


def operator(ca: ForkedCa, admin: Client, name: str) -> Context:
    invitation = admin.operators.invite(name, OperatorRole.ADMIN, address=ca.enroll_address)
    return enroll(invitation.token, ca.directory / name)


@contextmanager
def world_of(ca: ForkedCa, admin: Client, stack: ExitStack) -> Iterator[World]:
    url = ca.settings.get("KEYREEVE_CA_DATABASE__URL")
    [replica] = stack.enter_context(forked_membership(ca, admin, url))
    yield World(ca, replica, admin, stack)


def is_refused(client: Client, reason: str) -> bool:
    try:
        list(client.membership.arrays.list())
    except KeyreeveError as refused:
        return refused.reason == reason
    return False


def test_whom_the_ca_has_put_out_membership_refuses_on_open_channels(new_forked_ca: NewCa) -> None:
    with new_forked_ca() as ca, ExitStack() as stack:
        ca.serve()
        first = again_and_again("the first operator has a certificate", ca.admit)
        ann = stack.enter_context(Client(first, timeout=10))
        old, removed = operator(ca, ann, "carl"), "dora"
        successor = ann.authorities.create(
            "control-issuing-2",
            hierarchy=Hierarchy.CONTROL,
            kind=AuthorityKind.INTERMEDIATE,
            issuer="control-root-1",
            common_name="Control issuing 2",
        )
        ann.authorities.activate(successor.name)
        # Services and operators get certificates of the successor first: those of the old CA are good for nothing then.
        bea = stack.enter_context(Client(operator(ca, ann, "bea"), timeout=10))
        with world_of(ca, bea, stack) as world:
            carl, dora = world.client(old), world.client(operator(ca, bea, removed))
            for client in (carl, dora):
                assert list(client.membership.arrays.list()) == []
            bea.operators.remove(removed)
            wait_for("the removed operator is refused", lambda: is_refused_at_all(dora), REFUSED_SECONDS)
            assert list(carl.membership.arrays.list()) == []
            bea.authorities.revoke("control-issuing-1", CrlReason.CA_COMPROMISE)
            wait_for("what it issued is refused", lambda: is_refused(carl, "PEER_ISSUER_UNKNOWN"), REFUSED_SECONDS)
            assert list(world.client(bea.context).membership.arrays.list()) == []


def is_refused_at_all(client: Client) -> bool:
    return is_refused(client, "PEER_OPERATOR_UNKNOWN") or is_refused(client, "PEER_CERTIFICATE_REVOKED")


def test_a_ca_that_every_bundle_has_signs_nothing_but_checks_while_it_is_introduced(new_forked_ca: NewCa) -> None:
    with new_forked_ca() as ca, ExitStack() as stack:
        ca.serve()
        context = again_and_again("the first operator has a certificate", ca.admit)
        with world_of(ca, stack.enter_context(Client(context, timeout=10)), stack) as world:
            admin, membership = world.client(context), world.membership
            array = admin.membership.arrays.create(Server(SERVER, "127.0.0.1:5427", "5.40.908"))
            # An emergency starts without its members, and waits for them in this phase.
            started = admin.membership.rotations.start(array.name, RotationKind.EMERGENCY)
            rotation = wait_for("the new CA is introduced", lambda: distributed(admin, started.name))
            introduced = admin.authorities.get(rotation.new_authority)
            assert introduced.state is AuthorityState.INTRODUCED
            bundle = admin.membership.bundles.get(array.name)
            assert introduced.certificate_der in [one.certificate_der for one in bundle.authorities]

            names = [SERVER, "1.probe.example.test", "www.example.org"]
            signed = {
                (who, profile.name, name): attempt(client, profile.name, name, introduced.name)
                for who, client in (("membership", membership), ("admin", admin))
                for profile in admin.profiles.list()
                for name in names
            }
            assert {one for one, done in signed.items() if done is not None} == {
                ("membership", "profiles/peer-check", "1.probe.example.test")
            }
            check = signed["membership", "profiles/peer-check", "1.probe.example.test"]
            assert check is not None
            assert check.not_valid_after_utc - check.not_valid_before_utc <= timedelta(minutes=20)
            usages = check.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
            assert list(usages) == [x509.oid.ExtendedKeyUsageOID.CLIENT_AUTH]
            signed_by = admin.authorities.get(array.authority)
            assert signed_by.state is AuthorityState.ACTIVE, "the old CA issues meanwhile"


def distributed(client: Client, name: str) -> object:
    found = client.membership.rotations.get(name)
    return found if found.phase is RotationPhase.DISTRIBUTED else None


def attempt(client: Client, profile: str, name: str, authority: str) -> x509.Certificate | None:
    """A certificate for a name, or none if that is refused."""
    try:
        common_name = name if profile.endswith("array-peer") else None
        csr = make_csr(make_key(), [Name.dns(name)], common_name=common_name)
        made = client.certificates.sign(profile, csr, names=[Name.dns(name)], authority=authority)
    except KeyreeveError:
        return None
    return x509.load_der_x509_certificate(made.certificate_der)
