"""Authorities of arrays: introduced before they issue, and changed only by orders of the leader of the moment."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from functools import partial
from itertools import count

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from keyreeve import Client, Name, errors
from keyreeve.keys import make_csr
from keyreeve.values import Authority, AuthorityKind, AuthorityState, CrlReason, Hierarchy, Order
from keyreeve_ca.store.metadata import metadata
from support.running_ca import ADMIN, MEMBERSHIP, RunningCa, refused, server_csr, some_key, unique

pytestmark = pytest.mark.sqlite_first

CHECK = "x1.probe.example.test"


class Array:
    """An array whose authorities one leader changes in order."""

    def __init__(self, ca: RunningCa) -> None:
        self.ca = ca
        self.name = f"arrays/{unique('array')}"
        self.client: Client = ca.client(MEMBERSHIP)
        self._steps = count(1)
        self.last = Order(1, 0, 5, "leader/one")

    def order(self) -> Order:
        self.last = replace(self.last, step=next(self._steps))
        return self.last

    def create(self, order: Order | None = None) -> Authority:
        name = unique("array")
        return self.client.authorities.create(
            name,
            hierarchy=Hierarchy.STANDALONE,
            kind=AuthorityKind.ROOT,
            owner=self.name,
            common_name=name,
            order=order or self.order(),
        )

    def introduced(self) -> Authority:
        return self.client.authorities.introduce(self.create().name, order=self.order())

    def active(self) -> Authority:
        return self.client.authorities.activate(self.create().name, order=self.order())

    def sign(self, authority: Authority, profile: str, name: str, **wanted: timedelta) -> x509.Certificate:
        certificates = self.client.certificates
        signed = certificates.sign(profile, server_csr(name), authority=authority.name, **wanted)
        return x509.load_der_x509_certificate(signed.certificate_der)


@pytest.fixture
def array(ca: RunningCa) -> Array:
    return Array(ca)


def test_an_introduced_authority_signs_peer_checks_and_nothing_else(array: Array) -> None:
    authority = array.introduced()
    assert authority.state is AuthorityState.INTRODUCED
    check = array.sign(authority, "peer-check", CHECK)
    [usage] = check.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert usage == ExtendedKeyUsageOID.CLIENT_AUTH
    assert check.not_valid_after_utc - check.not_valid_before_utc < timedelta(minutes=15)
    for profile, name in (("array-peer", "one.example.test"), ("probe", CHECK)):
        assert refused(lambda p=profile, n=name: array.sign(authority, p, n)).reason == "AUTHORITY_STATE_WRONG"
    for name in ("one.example.test", "a.b.probe.example.test", "probe.example.test", "x.svc.example.test"):
        assert refused(lambda n=name: array.sign(authority, "peer-check", n)).reason == "NAME_REFUSED"
    longer = timedelta(minutes=16)
    assert refused(lambda: array.sign(authority, "peer-check", CHECK, lifetime=longer)).reason == "LIFETIME_REFUSED"


def test_only_the_membership_service_gets_a_peer_check(array: Array) -> None:
    authority = array.introduced()
    admin = array.ca.client(ADMIN).certificates
    told = refused(lambda: admin.sign("peer-check", server_csr(CHECK), authority=authority.name))
    assert told.reason == "PROFILE_NOT_ALLOWED"


def test_an_introduced_authority_issues_once_it_is_active(array: Array) -> None:
    authority = array.introduced()
    array.sign(authority, "peer-check", CHECK)
    active = array.client.authorities.activate(authority.name, order=array.order())
    assert active.state is AuthorityState.ACTIVE
    peer = array.sign(authority, "array-peer", "one.example.test")
    assert [a.value for a in peer.subject] == ["one.example.test"]
    array.sign(authority, "peer-check", CHECK)


def test_no_authority_of_the_two_hierarchies_is_introduced(array: Array) -> None:
    admin = array.ca.client(ADMIN).authorities
    for hierarchy in (Hierarchy.CONTROL, Hierarchy.ESTATE):
        name = unique(hierarchy.value)
        pending = admin.create(
            name,
            hierarchy=hierarchy,
            kind=AuthorityKind.INTERMEDIATE,
            issuer=f"{hierarchy.value}-root-1",
            common_name=name,
            unconstrained=hierarchy is Hierarchy.ESTATE,
        )
        before = everything(array.ca)
        for client in (admin, array.client.authorities):
            for order in (None, array.order()):
                introduce = partial(client.introduce, pending.name, order=order)  # type: ignore[arg-type]
                assert refused(introduce).reason == "ACCESS_DENIED"
        assert everything(array.ca) == before
        assert refused(lambda of=pending: array.sign(of, "peer-check", CHECK)).reason == "AUTHORITY_STATE_WRONG"
        owned = partial(admin.create, f"{name}-2", hierarchy=hierarchy, kind=AuthorityKind.INTERMEDIATE)
        owned = partial(owned, issuer=f"{hierarchy.value}-root-1", common_name=f"{name} 2", owner="racks/one")
        assert refused(owned).reason == "AUTHORITY_REFUSED"


def test_a_pending_authority_of_an_array_signs_nothing(array: Array) -> None:
    authority = array.create()
    assert refused(lambda: array.sign(authority, "peer-check", CHECK)).reason == "AUTHORITY_STATE_WRONG"


def test_the_membership_service_revokes_a_peer_certificate(array: Array) -> None:
    peer = array.sign(array.active(), "array-peer", "one.example.test")
    revoked = array.client.certificates.revoke(f"{peer.serial_number:032x}", CrlReason.PRIVILEGE_WITHDRAWN)
    assert revoked.revocation_reason is CrlReason.PRIVILEGE_WITHDRAWN


@pytest.mark.parametrize(
    "changed",
    [
        {"fence": 4},
        {"owner_nonce": "leader-two"},
        {"step": 0},
        {"rotation": 0, "step": 9},
        {"fence": 6, "owner_nonce": "leader-two", "step": 0},
    ],
)
def test_an_outdated_order_of_any_kind_is_refused_and_changes_no_row(array: Array, changed: dict[str, object]) -> None:
    authorities = array.client.authorities
    active, introduced, pending = array.active(), array.introduced(), array.create()
    old = replace(array.last, **changed)  # type: ignore[arg-type]
    before = everything(array.ca)
    for act in (
        lambda: array.create(old),
        lambda: authorities.introduce(pending.name, order=old),
        lambda: authorities.activate(introduced.name, order=old),
        lambda: authorities.retire(active.name, order=old),
        lambda: authorities.revoke(active.name, CrlReason.SUPERSEDED, order=old),
        lambda: authorities.destroy(pending.name, order=old),
    ):
        told = refused(act)
        assert told.reason == "ORDER_OUTDATED"
        assert told.metadata["fence"] == "5"
    assert everything(array.ca) == before


def test_a_new_leader_goes_on_where_the_last_one_stopped_and_the_last_one_is_refused(array: Array) -> None:
    pending = array.create()
    late = array.last
    array.last = replace(array.last, fence=6, owner_nonce="leader-two")
    authorities = array.client.authorities
    authorities.introduce(pending.name, order=array.last)
    assert refused(lambda: authorities.destroy(pending.name, order=late)).reason == "ORDER_OUTDATED"
    assert refused(lambda: authorities.destroy(pending.name, order=replace(late, step=99))).reason == "ORDER_OUTDATED"
    assert authorities.get(pending.name).state is AuthorityState.INTRODUCED


def test_an_order_that_is_sent_again_gets_the_same_answer(array: Array) -> None:
    pending, order, request_id = array.create(), array.order(), "6b0e3bd0-32b5-4b5c-8d5e-0c1f0ad0f9c8"
    authorities = array.client.authorities
    first = authorities.introduce(pending.name, order=order, request_id=request_id)
    array.client.authorities.activate(pending.name, order=array.order())
    assert authorities.introduce(pending.name, order=order, request_id=request_id) == first
    assert authorities.get(pending.name).state is AuthorityState.ACTIVE


def test_orders_of_one_array_do_not_outdate_those_of_another(array: Array) -> None:
    array.active()
    other = Array(array.ca)
    other.last = replace(other.last, fence=1)
    other.active()


def test_what_belongs_to_an_array_is_changed_by_ordered_calls_of_the_membership_service_alone(array: Array) -> None:
    active, admin, membership = array.active(), array.ca.client(ADMIN).authorities, array.client.authorities
    assert refused(lambda: membership.retire(active.name)).violations[0].field == "order"
    for act in (lambda: admin.retire(active.name), lambda: admin.activate(active.name)):
        assert refused(act).reason == "ACCESS_DENIED"
    told = refused(
        lambda: admin.create(
            "ours",
            hierarchy=Hierarchy.STANDALONE,
            kind=AuthorityKind.ROOT,
            owner=array.name,
            common_name="ours",
            order=array.order(),
        )
    )
    assert told.reason == "ACCESS_DENIED"
    told = refused(lambda: admin.retire("estate-issuing-1", order=array.order()))
    assert (told.reason, told.violations[0].field) == ("FIELD_INVALID", "order")
    assert admin.revoke(active.name, CrlReason.CA_COMPROMISE).state is AuthorityState.REVOKED


def test_a_destroyed_key_signs_no_more_and_unexpired_certificates_protect_it(array: Array) -> None:
    authority, authorities = array.active(), array.client.authorities
    array.sign(authority, "array-peer", "one.example.test")
    told = refused(lambda: authorities.destroy(authority.name, order=array.order()))
    assert told.reason == "AUTHORITY_STATE_WRONG"
    authorities.retire(authority.name, order=array.order())
    told = refused(lambda: authorities.destroy(authority.name, order=array.order()))
    assert told.reason == "AUTHORITY_IN_USE"
    assert int(told.metadata["last_expiry"]) > 0
    gone = authorities.destroy(authority.name, order=array.order(), accept_unexpired=True)
    assert gone.state is AuthorityState.RETIRED
    stored = array.ca.read(lambda tx: tx.authority(authority.name.partition("/")[2]))
    with pytest.raises(LookupError):
        array.ca.read(lambda tx: tx.key(stored.key_id))


def test_an_introduced_authority_that_is_rolled_back_leaves_nothing_to_sign_with(array: Array) -> None:
    authority = array.introduced()
    array.sign(authority, "peer-check", CHECK)
    authorities = array.client.authorities
    gone = authorities.destroy(authority.name, order=array.order(), accept_unexpired=True)
    assert gone.state is AuthorityState.RETIRED
    assert refused(lambda: array.sign(authority, "peer-check", CHECK)).reason == "AUTHORITY_STATE_WRONG"


def test_a_revoked_authority_stays_revoked_when_its_key_is_destroyed(array: Array) -> None:
    authority, authorities = array.active(), array.client.authorities
    authorities.revoke(authority.name, CrlReason.SUPERSEDED, order=array.order())
    assert authorities.destroy(authority.name, order=array.order()).state is AuthorityState.REVOKED


def test_a_peer_certificate_has_the_one_name_asked_for(array: Array) -> None:
    authority = array.active()
    csr = make_csr(some_key(), [Name.dns("one.example.test"), Name.dns("two.example.test")])
    certificates = array.client.certificates
    with pytest.raises(errors.TooManyNames):
        certificates.sign("array-peer", csr, authority=authority.name)


def everything(ca: RunningCa) -> tuple[object, ...]:
    """The rows that orders change."""
    return ca.read(lambda tx: tuple(_rows(tx)))


def _rows(tx: object) -> Iterator[object]:
    for name in ("authorities", "keys", "array_orders", "members", "serial_blocks", "revocation_head"):
        table = metadata.tables[name]
        yield sorted(map(repr, tx._connection.execute(table.select())))  # type: ignore[attr-defined]
