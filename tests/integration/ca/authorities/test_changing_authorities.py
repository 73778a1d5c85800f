"""AuthorityService: create, activate, retire and revoke, and the effect on issuance, listeners and bundles."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import grpc
import pytest
from cryptography import x509

from keyreeve import Client, Name, errors
from keyreeve.ca.v1 import authority_service_pb2 as pb
from keyreeve.ca.v1 import authority_service_pb2_grpc as stubs
from keyreeve.keys import make_csr, make_key
from keyreeve.request_ids import new_request_id
from keyreeve.status import error_from_rpc
from keyreeve.values import Authority, AuthorityKind, AuthorityState, CrlReason, Hierarchy, KeyType
from support.running_ca import (
    ADMIN,
    AUDITOR,
    MEMBERSHIP,
    OPERATOR,
    WORKLOAD,
    RunningCa,
    names_of,
    refused,
    server_csr,
    unique,
)
from support.waiting import wait_for

pytestmark = pytest.mark.sqlite_first

SUPERSEDED = CrlReason.SUPERSEDED
CONTROL_TYPES = [KeyType.P256, KeyType.P384, KeyType.RSA3072, KeyType.ED25519]


def certificate_of(authority: Authority) -> x509.Certificate:
    return x509.load_der_x509_certificate(authority.certificate_der)


def intermediate(
    ca: RunningCa, hierarchy: Hierarchy = Hierarchy.ESTATE, path: str = ADMIN, **requested_extensions: object
) -> Authority:
    """A pending issuing CA below the hierarchy's first root."""
    values = {
        "hierarchy": hierarchy,
        "kind": AuthorityKind.INTERMEDIATE,
        "issuer": f"{hierarchy}-root-1",
        "common_name": (name := unique("issuing")),
    }
    return ca.client(path).authorities.create(name, **(values | requested_extensions))


def standalone(ca: RunningCa, path: str = MEMBERSHIP, **requested_extensions: object) -> Authority:
    values = {
        "hierarchy": Hierarchy.STANDALONE,
        "kind": AuthorityKind.ROOT,
        "owner": "appliances/one",
        "common_name": (name := unique("array")),
    }
    return ca.client(path).authorities.create(name, **(values | requested_extensions))


# --- Making -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key_type", [*CONTROL_TYPES, KeyType.RSA4096])
def test_an_authority_has_a_key_of_the_type_asked_for_and_its_issuer_vouches_for_it(ca: RunningCa, key_type: KeyType):
    made = intermediate(ca, key_type=key_type)
    assert (made.state, made.key_type, made.lifetime) == (AuthorityState.PENDING, key_type, timedelta(days=730))
    chain = [x509.load_der_x509_certificate(der) for der in ca.client(AUDITOR).authorities.export(made.name)]
    assert [c.subject for c in chain] == [certificate_of(made).subject, chain[0].issuer]
    chain[0].verify_directly_issued_by(chain[1])
    constraints = chain[0].extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert constraints.value.path_length == 0
    excluded = chain[0].extensions.get_extension_for_class(x509.NameConstraints).value.excluded_subtrees
    assert {name.value for name in excluded or ()} == {"svc.example.test", "probe.example.test"}


@pytest.mark.parametrize("key_type", CONTROL_TYPES)
def test_an_authority_of_every_type_of_key_signs_what_others_accept(ca: RunningCa, key_type: KeyType):
    made = standalone(ca, key_type=key_type)
    ca.client(MEMBERSHIP).authorities.activate(made.name)
    signed = ca.client(MEMBERSHIP).certificates.sign("array-peer", server_csr("a.test"), authority=made.name)
    leaf = x509.load_der_x509_certificate(signed.certificate_der)
    leaf.verify_directly_issued_by(certificate_of(made))


def test_a_new_root_signs_itself_for_ten_years(ca: RunningCa):
    name = unique("root")
    made = ca.client().authorities.create(name, hierarchy=Hierarchy.ESTATE, kind=AuthorityKind.ROOT, common_name=name)
    certificate = certificate_of(made)
    assert made.issuer == made.name
    assert made.lifetime == timedelta(days=3650)
    certificate.verify_directly_issued_by(certificate)
    assert certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length == 1
    assert list(ca.client().authorities.export(made.name)) == [made.certificate_der]


@pytest.mark.parametrize("lifetime", [timedelta(seconds=301), timedelta(days=30), timedelta(days=800)])
def test_a_lifetime_is_granted_to_the_second(ca: RunningCa, lifetime: timedelta):
    made = intermediate(ca, lifetime=lifetime)
    certificate = certificate_of(made)
    assert made.lifetime == lifetime
    assert certificate.not_valid_after_utc - certificate.not_valid_before_utc == lifetime - timedelta(seconds=1)


@pytest.mark.parametrize("seconds", [1, 300, 3650 * 86_400 + 60, 200 * 366 * 86_400, 9_000 * 366 * 86_400])
def test_a_lifetime_that_has_passed_or_exceeds_the_issuers_is_refused(ca: RunningCa, seconds: int):
    told = refused(lambda: intermediate(ca, lifetime=timedelta(seconds=seconds)))
    assert told.reason == "AUTHORITY_REFUSED"


@pytest.mark.parametrize("seconds", [0, -5])
def test_a_lifetime_that_is_none_is_refused(ca: RunningCa, seconds: int):
    assert refused(lambda: intermediate(ca, lifetime=timedelta(seconds=seconds))).reason == "FIELD_INVALID"


def test_permitted_names_nest(ca: RunningCa):
    name = unique("confined")
    root = ca.client().authorities.create(
        name,
        hierarchy=Hierarchy.ESTATE,
        kind=AuthorityKind.ROOT,
        common_name=name,
        permitted_dns_suffixes=["example.org", "example.net"],
    )
    ca.client().authorities.activate(root.name)
    for wider in ([], ["example.com"], ["example.org", "org"], ["xexample.org"]):
        told = refused(lambda wider=wider: intermediate(ca, issuer=name, permitted_dns_suffixes=wider))
        assert told.reason == "AUTHORITY_REFUSED", wider
    below = intermediate(ca, issuer=name, permitted_dns_suffixes=["a.example.org", "example.net"])
    assert below.permitted_dns_suffixes == ("a.example.org", "example.net")


@pytest.mark.parametrize("suffix", ["", ".example.org", "EXAMPLE.org", "exa mple.org", "a..b", "*.example.org", "\0"])
def test_what_is_no_dns_name_permits_nothing(ca: RunningCa, suffix: str):
    assert refused(lambda: intermediate(ca, permitted_dns_suffixes=[suffix])).reason == "AUTHORITY_REFUSED"


def test_a_confined_authority_signs_only_below_its_suffixes(ca: RunningCa):
    made = standalone(ca, permitted_dns_suffixes=["inside.test"])
    certificates = ca.client(MEMBERSHIP).certificates
    ca.client(MEMBERSHIP).authorities.activate(made.name)
    certificates.sign("array-peer", server_csr("a.inside.test"), authority=made.name)
    told = refused(lambda: certificates.sign("array-peer", server_csr("a.outside.test"), authority=made.name))
    assert told.reason == "NAME_REFUSED"


@pytest.mark.parametrize("authority_id", ["", "A", "1a", "a_b", "a-", "-a", "a" * 64, "a/b", "a.b", "ä", "a\n"])
def test_an_id_that_is_none_is_refused(ca: RunningCa, authority_id: str):
    told = refused(
        lambda: ca.client().authorities.create(
            authority_id, hierarchy=Hierarchy.ESTATE, kind=AuthorityKind.ROOT, common_name=unique("x")
        )
    )
    assert (told.reason, told.violations[0].field) == ("FIELD_INVALID", "authority_id")


@pytest.mark.parametrize(
    ("requested_extensions", "reason"),
    [
        ({"issuer": "nothing-like-it"}, "AUTHORITY_NOT_FOUND"),
        ({"issuer": "estate-issuing-1"}, "AUTHORITY_REFUSED"),
        ({"issuer": "control-root-1"}, "AUTHORITY_REFUSED"),
        ({"issuer": None}, "FIELD_INVALID"),
        ({"kind": AuthorityKind.ROOT}, "FIELD_INVALID"),
        ({"owner": "appliances/x"}, "AUTHORITY_REFUSED"),
        ({"hierarchy": Hierarchy.STANDALONE, "owner": "appliances/x"}, "AUTHORITY_REFUSED"),
        ({"key_type": KeyType.RSA2048}, "FIELD_INVALID"),
        ({"common_name": ""}, "AUTHORITY_REFUSED"),
        ({"common_name": "x" * 65}, "AUTHORITY_REFUSED"),
        ({"common_name": "line\nbreak"}, "AUTHORITY_REFUSED"),
        ({"common_name": "Keyreeve estate-root-1"}, "AUTHORITY_REFUSED"),
        ({"common_name": "Keyreeve control-issuing-1"}, "AUTHORITY_REFUSED"),
    ],
)
def test_what_does_not_fit_together_is_refused(ca: RunningCa, requested_extensions: dict[str, object], reason: str):
    assert refused(lambda: intermediate(ca, **requested_extensions)).reason == reason


@pytest.mark.parametrize(
    "owner", ["", "arrays", "arrays/", "/x", "arrays/a b", "arrays/\0", "Arrays/x", "a/" + "x" * 300]
)
def test_a_stand_alone_authority_needs_an_owner_that_is_a_name(ca: RunningCa, owner: str):
    told = refused(lambda: standalone(ca, owner=owner))
    assert told.reason == ("FIELD_INVALID" if owner else "AUTHORITY_REFUSED")


def test_ids_and_common_names_are_used_once(ca: RunningCa):
    made = intermediate(ca)
    [name] = names_of([made])
    # With its own common name: the same creation under another request id, which is told of the id.
    for common_name in (unique("other"), made.common_name):
        told = refused(
            lambda common_name=common_name: ca.client().authorities.create(
                name, hierarchy=Hierarchy.ESTATE, kind=AuthorityKind.ROOT, common_name=common_name
            )
        )
        assert told.reason == "AUTHORITY_EXISTS"
    assert refused(lambda: intermediate(ca, common_name=made.common_name)).reason == "AUTHORITY_REFUSED"
    # Names are unique across hierarchies.
    assert refused(lambda: standalone(ca, common_name=made.common_name)).reason == "AUTHORITY_REFUSED"


def test_an_issuer_that_is_not_active_authenticates_no_caller(ca: RunningCa):
    name = unique("root")
    ca.client().authorities.create(name, hierarchy=Hierarchy.ESTATE, kind=AuthorityKind.ROOT, common_name=name)
    assert refused(lambda: intermediate(ca, issuer=name)).reason == "AUTHORITY_STATE_WRONG"


# --- Activating ---------------------------------------------------------------------------------------------------------


def test_the_newest_active_authority_signs_and_the_older_one_when_it_is_named(own_ca: RunningCa):
    made = intermediate(own_ca)
    sign = own_ca.client().certificates.sign
    assert sign("server", server_csr("a.test")).authority == "authorities/estate-issuing-1"
    own_ca.clock.offset = 1  # activation counts in seconds
    active = own_ca.client().authorities.activate(made.name)
    assert active.state is AuthorityState.ACTIVE
    assert active.activated_at is not None
    # At once here, and at the other worker as soon as it has heard.
    assert sign("server", server_csr("a.test")).authority == made.name
    other = own_ca.client(worker=1).certificates.sign
    assert other("server", server_csr("a.test"), authority=made.name).authority == made.name
    assert sign("server", server_csr("a.test"), authority="estate-issuing-1").authority.endswith("estate-issuing-1")


def test_only_a_pending_authority_is_activated(ca: RunningCa):
    made = standalone(ca)
    ca.client().authorities.activate(made.name)
    told = refused(lambda: ca.client().authorities.activate(made.name))
    assert (told.reason, told.metadata["state"]) == ("AUTHORITY_STATE_WRONG", "active")
    assert refused(lambda: ca.client().authorities.activate("nothing-like-it")).reason == "AUTHORITY_NOT_FOUND"


def test_an_authority_under_which_a_profile_does_not_lint_clean_is_not_activated(
    ca: RunningCa, monkeypatch: pytest.MonkeyPatch
):
    made = standalone(ca)
    finding = ["a finding that nothing excuses"]
    monkeypatch.setattr("keyreeve_ca.certificates.linter.PkilintLinter.profile", lambda *_: finding)
    told = refused(lambda: ca.client().authorities.activate(made.name))
    assert told.reason == "LINT_FINDINGS"
    assert finding[0] in told.metadata["findings"]
    assert ca.client().authorities.get(made.name).state is AuthorityState.PENDING
    monkeypatch.undo()
    assert ca.client().authorities.activate(made.name).state is AuthorityState.ACTIVE


# --- Retiring -----------------------------------------------------------------------------------------------------------


def test_the_last_active_authority_of_a_hierarchy_stays(ca: RunningCa):
    for name, kind in (("control-root-1", "root"), ("control-issuing-1", "intermediate")):
        for step in (
            lambda name=name: ca.client().authorities.retire(name),
            lambda name=name: ca.client().authorities.revoke(name, SUPERSEDED),
        ):
            told = refused(step)
            assert told.reason == "AUTHORITY_IN_USE"
            assert told.metadata.items() >= {"authority": name, "hierarchy": "control", "kind": kind}.items()
            assert "last_expiry" not in told.metadata
            assert "activate a successor" in told.message
        assert ca.client().authorities.get(name).state is AuthorityState.ACTIVE


def test_a_stand_alone_authority_goes_from_active_to_retired_when_nothing_depends_on_it(ca: RunningCa):
    made = standalone(ca)
    ca.client(MEMBERSHIP).authorities.activate(made.name)
    retiring = ca.client(MEMBERSHIP).authorities.retire(made.name)
    assert retiring.state is AuthorityState.RETIRING
    assert retiring.retired_at is not None
    told = refused(
        lambda: ca.client(MEMBERSHIP).certificates.sign("array-peer", server_csr("a.test"), authority=made.name)
    )
    assert (told.reason, told.metadata["state"]) == ("AUTHORITY_STATE_WRONG", "retiring")
    assert ca.client(MEMBERSHIP).authorities.retire(made.name).state is AuthorityState.RETIRED
    assert refused(lambda: ca.client().authorities.retire(made.name)).reason == "AUTHORITY_STATE_WRONG"
    [name] = names_of([made])
    key_id = ca.read(lambda tx: tx.authority(name).key_id)
    with pytest.raises(LookupError, match="destroyed"):
        ca.read(lambda tx: tx.key(key_id))


def test_a_retiring_authority_ends_after_its_last_certificate_and_not_before(own_ca: RunningCa):
    made = standalone(own_ca)
    authorities, certificates = own_ca.client(MEMBERSHIP).authorities, own_ca.client(MEMBERSHIP).certificates
    authorities.activate(made.name)
    signed = certificates.sign("array-peer", server_csr("a.test"), authority=made.name, lifetime=timedelta(minutes=30))
    authorities.retire(made.name)
    told = refused(lambda: authorities.retire(made.name))
    assert (told.reason, told.metadata["last_expiry"]) == ("AUTHORITY_IN_USE", str(int(signed.not_after.timestamp())))
    assert f"{signed.not_after:%Y-%m-%dT%H:%M:%SZ}" in told.message
    own_ca.clock.offset = int(signed.not_after.timestamp()) - own_ca.clock.now() + 5
    assert authorities.retire(made.name).state is AuthorityState.RETIRED


def test_what_a_retiring_authority_has_issued_is_still_accepted(own_ca: RunningCa):
    client = own_ca.client(OPERATOR)
    own_ca.context(OPERATOR, worker=1)
    successor = intermediate(own_ca, Hierarchy.CONTROL)
    own_ca.client().authorities.activate(successor.name)
    own_ca.client().authorities.retire("control-issuing-1")
    for worker in (0, 1):
        assert own_ca.client(OPERATOR, worker=worker).authorities.get("control-issuing-1")
    # Renewal moves the holder to the successor.
    leaf = x509.load_pem_x509_certificates(client.context.certificate.read_bytes())[0]
    signed = client.certificates.renew(f"{leaf.serial_number:032x}", make_csr(make_key()))
    assert signed.authority == successor.name
    told = refused(
        lambda: own_ca.client().certificates.sign(
            "workload", make_csr(make_key(), [Name.uri(own_ca.identity(WORKLOAD))]), authority="control-issuing-1"
        )
    )
    assert told.reason == "AUTHORITY_STATE_WRONG"


# --- Revoking -----------------------------------------------------------------------------------------------------------


def renewed_client(ca: RunningCa, path: str) -> Client:
    """A client whose certificate comes from the newest authority."""
    client = ca.new_client(path)
    wait_for("the worker has heard of the newest authority", lambda: not is_refused(client), seconds=5)
    return client


def is_refused(client: Client) -> bool:
    """Whether the authority of the client's certificate is not trusted."""
    try:
        client.authorities.get("control-root-1")
    except errors.PeerIssuerUnknown:
        return True
    return False


def test_what_a_revoked_authority_has_issued_is_refused_on_open_channels_within_a_second(own_ca: RunningCa):
    old = [own_ca.client(OPERATOR, worker=worker) for worker in (0, 1)]
    for client in old:
        client.authorities.get("control-root-1")
    stream = stubs.AuthorityServiceStub(own_ca.channel(WORKLOAD)).WatchBundle(
        pb.WatchBundleRequest(name="bundles/control"), timeout=30
    )
    next(stream)
    successor = intermediate(own_ca, Hierarchy.CONTROL)
    own_ca.client().authorities.activate(successor.name)
    own_ca.run(own_ca.coordinator.issuance.reload())
    admin = renewed_client(own_ca, ADMIN)
    admin.authorities.revoke("control-issuing-1", CrlReason.CA_COMPROMISE)

    for client in old:
        wait_for("the old certificate is refused", lambda client=client: is_refused(client), seconds=1.0)
    with pytest.raises(grpc.RpcError) as cut:
        list(stream)
    assert error_from_rpc(cut.value, "ca").reason == "PEER_ISSUER_UNKNOWN"
    assert admin.authorities.get("control-issuing-1").revoked_at is not None
    # The workers' own certificates follow, so that new connections are served by the successor.
    assert renewed_client(own_ca, OPERATOR).authorities.get("control-root-1")


def test_a_root_takes_what_it_has_signed_with_it_and_never_the_last_way_in(own_ca: RunningCa):
    admin = own_ca.client()
    name = unique("root")
    admin.authorities.create(name, hierarchy=Hierarchy.CONTROL, kind=AuthorityKind.ROOT, common_name=name)
    admin.authorities.activate(name)
    told = refused(lambda: admin.authorities.revoke("control-root-1", SUPERSEDED))
    assert told.reason == "AUTHORITY_IN_USE", "no issuing CA below the other root"
    admin.authorities.retire("control-root-1")
    assert refused(lambda: admin.authorities.revoke("control-root-1", SUPERSEDED)).reason == "AUTHORITY_IN_USE"
    below = intermediate(own_ca, Hierarchy.CONTROL, issuer=name)
    own_ca.clock.offset = 1
    admin.authorities.activate(below.name)
    own_ca.run(own_ca.coordinator.issuance.reload())
    newer = renewed_client(own_ca, ADMIN)
    pending = [a for a in newer.authorities.list() if a.issuer == "authorities/control-root-1" and a.state == "pending"]
    assert pending == []
    newer.authorities.revoke("control-root-1", SUPERSEDED)
    states = {a.name.partition("/")[2]: a.state for a in newer.authorities.list()}
    assert states["control-issuing-1"] is AuthorityState.REVOKED
    assert states["control-root-1"] is AuthorityState.REVOKED
    assert newer.authorities.bundle("control").roots_der == (newer.authorities.get(name).certificate_der,)
    assert refused(lambda: newer.authorities.revoke(below.name, SUPERSEDED)).reason == "AUTHORITY_IN_USE"


@pytest.mark.parametrize("state", ["pending", "active", "retiring"])
def test_a_revoked_authority_does_nothing_more(ca: RunningCa, state: str):
    made = standalone(ca)
    authorities = ca.client(MEMBERSHIP).authorities
    if state != "pending":
        authorities.activate(made.name)
    if state == "retiring":
        authorities.retire(made.name)
    assert authorities.revoke(made.name, SUPERSEDED).state is AuthorityState.REVOKED
    for step in (authorities.activate, authorities.retire, lambda name: authorities.revoke(name, SUPERSEDED)):
        assert refused(lambda step=step: step(made.name)).reason == "AUTHORITY_STATE_WRONG"


def test_a_revocation_without_a_reason_is_refused(ca: RunningCa):
    stub = stubs.AuthorityServiceStub(ca.channel())
    with pytest.raises(grpc.RpcError) as caught:
        stub.RevokeAuthority(
            pb.RevokeAuthorityRequest(name="authorities/estate-issuing-1", request_id=new_request_id()), timeout=20
        )
    assert error_from_rpc(caught.value, "ca").violations[0].field == "reason"


# --- The membership service ---------------------------------------------------------------------------------------------


def test_the_membership_service_changes_only_authorities_that_have_an_owner(ca: RunningCa):
    membership = ca.client(MEMBERSHIP).authorities
    pending = intermediate(ca)
    for step in (
        lambda: intermediate(ca, path=MEMBERSHIP),
        lambda: membership.activate(pending.name),
        lambda: membership.retire("estate-issuing-1"),
        lambda: membership.revoke("estate-issuing-1", SUPERSEDED),
    ):
        assert refused(step).reason == "ACCESS_DENIED"
    assert ca.client().authorities.get(pending.name).state is AuthorityState.PENDING


# --- Bundles ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", ["control", "estate"])
def test_a_bundle_holds_the_roots_of_its_line(ca: RunningCa, line: str):
    bundle = ca.client(WORKLOAD).authorities.bundle(line)
    roots = [a for a in ca.client().authorities.list() if a.hierarchy == line and a.kind is AuthorityKind.ROOT]
    trusted = [a.certificate_der for a in roots if a.state in {AuthorityState.ACTIVE, AuthorityState.RETIRING}]
    assert list(bundle.roots_der) == sorted(trusted)
    assert bundle.trust_root.startswith(b"{")
    assert bundle.trust_domain == "example.test"


@pytest.mark.parametrize("name", ["bundles/none", "bundles/Control", "bundles/standalone"])
def test_there_is_no_other_bundle(ca: RunningCa, name: str):
    assert refused(lambda: ca.client().authorities.bundle(name)).reason == "BUNDLE_NOT_FOUND"
    assert refused(lambda: next(ca.client().authorities.watch_bundle(name))).reason == "BUNDLE_NOT_FOUND"


def test_a_watcher_sees_a_new_root_when_it_is_activated_and_its_end(own_ca: RunningCa):
    bundles = own_ca.client(WORKLOAD, worker=1).authorities.watch_bundle("control")
    # A thread only for the limit on time: what it still waits for when the test fails ends with the client.
    watching = ThreadPoolExecutor(1)

    def roots() -> int:
        return len(watching.submit(next, bundles).result(60).roots_der)

    try:
        assert roots() == 1
        authorities = own_ca.client().authorities
        authorities.create("second", hierarchy=Hierarchy.CONTROL, kind=AuthorityKind.ROOT, common_name="second")
        authorities.activate("second")
        assert roots() == 2
        authorities.revoke("second", SUPERSEDED)
        assert roots() == 1
    finally:
        watching.shutdown(wait=False)


def test_a_stream_is_cut_when_its_callers_certificate_expires(own_ca: RunningCa):
    stream = stubs.AuthorityServiceStub(own_ca.channel(OPERATOR)).WatchBundle(
        pb.WatchBundleRequest(name="bundles/control"), timeout=30
    )
    next(stream)
    own_ca.clock.offset = 12 * 3600
    with pytest.raises(grpc.RpcError) as cut:
        list(stream)
    assert error_from_rpc(cut.value, "ca").reason == "PEER_CERTIFICATE_EXPIRED"


# --- Names that are none ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", "estate-issuing-1", "authorities/", "authorities/a/b", "authorities/\0", "x/y"])
def test_what_is_no_name_of_an_authority_is_refused(ca: RunningCa, name: str):
    stub = stubs.AuthorityServiceStub(ca.channel())
    with pytest.raises(grpc.RpcError) as caught:
        stub.GetAuthority(pb.GetAuthorityRequest(name=name), timeout=20)
    assert error_from_rpc(caught.value, "ca").reason == "FIELD_INVALID"


def test_no_answer_holds_a_private_key(ca: RunningCa):
    made = standalone(ca)
    [name] = names_of([made])
    sealed = ca.read(lambda tx: tx.key(tx.authority(name).key_id)).sealed
    stub = stubs.AuthorityServiceStub(ca.channel())
    for answer in (
        stub.GetAuthority(pb.GetAuthorityRequest(name=made.name), timeout=20),
        stub.ExportAuthority(pb.ExportAuthorityRequest(name=made.name), timeout=20),
    ):
        assert sealed not in answer.SerializeToString()
