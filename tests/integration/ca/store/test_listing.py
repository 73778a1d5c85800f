"""Lists and lookups: pages, filters and access."""

from datetime import UTC, datetime, timedelta

import grpc
import pytest

from keyreeve import Name, SignItem, errors
from keyreeve.ca.v1 import authority_service_pb2 as authority_pb
from keyreeve.ca.v1 import authority_service_pb2_grpc as authority_stubs
from keyreeve.ca.v1 import certificate_service_pb2 as pb
from keyreeve.ca.v1 import certificate_service_pb2_grpc as stubs
from keyreeve.keys import make_csr, make_key
from keyreeve.status import error_from_rpc
from keyreeve.values import AuthorityKind, CertificateState, Hierarchy
from keyreeve_ca.store import certificate_pages
from support.running_ca import (
    ADMIN,
    AUDITOR,
    MEMBER,
    MEMBERSHIP,
    OPERATOR,
    WORKLOAD,
    RunningCa,
    refused,
    server_csr,
    unique,
)


@pytest.fixture(autouse=True)
def no_page_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ledger is that of other tests too; how pages end when much was read is tested with the storage."""
    monkeypatch.setattr(certificate_pages, "MOST_READ", 1_000_000)


class Lists:
    """Pages as they go over the wire."""

    def __init__(self, ca: RunningCa, path: str = ADMIN, worker: int = 0) -> None:
        self._stub = stubs.CertificateServiceStub(ca.channel(path, worker=worker))

    def page(self, **fields: object) -> pb.ListCertificatesResponse:
        return self._stub.ListCertificates(pb.ListCertificatesRequest(**fields), timeout=20)

    def refusal(self, **fields: object) -> errors.KeyreeveError:
        with pytest.raises(grpc.RpcError) as caught:
            self.page(**fields)
        return error_from_rpc(caught.value, "ca")


@pytest.fixture
def issued(ca: RunningCa) -> tuple[str, list[str]]:
    """A profile of the test's own with 7 certificates, oldest first."""
    name = ca.new_profile()
    outcomes = ca.client(WORKLOAD).certificates.sign_many(
        [SignItem(name, server_csr(f"n{n % 3}.{name}.test"), lifetime=timedelta(days=n + 1)) for n in range(7)]
    )
    return name, [o.serial for o in outcomes]


# --- Pages --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 3, 6, 7, 8, 100])
def test_every_size_of_pages_shows_everything_once_in_order(ca: RunningCa, issued: tuple[str, list[str]], size: int):
    profile, serials = issued
    found, token, pages = [], "", 0
    while True:
        page = Lists(ca, worker=pages % 2).page(profile=f"profiles/{profile}", page_size=size, page_token=token)
        found += [c.name.removeprefix("certificates/") for c in page.certificates]
        assert len(page.certificates) <= size
        token, pages = page.next_page_token, pages + 1
        if not token:
            break
    assert found == sorted(serials)
    assert pages == -(-7 // size)


@pytest.mark.parametrize("size", [1, 3, 7, 100])
def test_pages_from_the_newest_on_show_everything_once_in_order(own_ca: RunningCa, size: int):
    profile = own_ca.new_profile()
    serials = []
    for _ in range(3):
        own_ca.clock.offset += 2
        outcomes = own_ca.client().certificates.sign_many([SignItem(profile, server_csr("a.test"))] * 3)
        serials.append(sorted(outcome.serial for outcome in outcomes))
    expected = [serial for batch in reversed(serials) for serial in reversed(batch)]
    found = own_ca.client().certificates.list(profile=profile, newest_first=True, page_size=size)
    assert [one.serial for one in found] == expected


def test_a_token_of_one_order_is_not_for_the_other(ca: RunningCa, issued: tuple[str, list[str]]):
    profile = f"profiles/{issued[0]}"
    token = Lists(ca).page(profile=profile, page_size=2, newest_first=True).next_page_token
    assert Lists(ca).refusal(profile=profile, page_token=token).reason == "PAGE_TOKEN_INVALID"


def test_no_size_is_fifty_and_none_is_above_five_hundred(ca: RunningCa):
    name = ca.new_profile()
    for _ in range(6):
        ca.client().certificates.sign_many([SignItem(name, server_csr("a.test"))] * 100)
    lists = Lists(ca)
    for asked, got in ((0, 50), (499, 499), (500, 500), (501, 500), (2**31 - 1, 500)):
        assert len(lists.page(profile=f"profiles/{name}", page_size=asked).certificates) == got
    assert (told := lists.refusal(page_size=-1)).reason == "FIELD_INVALID"
    assert told.violations[0].field == "page_size"


def test_a_token_is_for_its_caller_list_and_filters(ca: RunningCa, issued: tuple[str, list[str]]):
    profile = f"profiles/{issued[0]}"
    token = Lists(ca).page(profile=profile, page_size=2).next_page_token
    for lists, fields in (
        (Lists(ca, AUDITOR), {"profile": profile}),
        (Lists(ca), {}),
        (Lists(ca), {"profile": "profiles/server"}),
        (Lists(ca), {"profile": profile, "state": pb.CERTIFICATE_STATE_VALID}),
    ):
        assert lists.refusal(page_token=token, **fields).reason == "PAGE_TOKEN_INVALID"
    for forged in ("x", token[:-1], token + "A", token.swapcase(), "=" * 10, "\0", "A" * 5000):
        assert Lists(ca).refusal(profile=profile, page_token=forged).reason == "PAGE_TOKEN_INVALID"
    authorities = authority_stubs.AuthorityServiceStub(ca.channel())
    with pytest.raises(grpc.RpcError) as caught:
        authorities.ListAuthorities(authority_pb.ListAuthoritiesRequest(page_token=token), timeout=20)
    assert error_from_rpc(caught.value, "ca").reason == "PAGE_TOKEN_INVALID"
    other_size = Lists(ca).page(profile=profile, page_size=5, page_token=token)
    assert len(other_size.certificates) == 5, "the size may change from page to page"


def test_authorities_page_in_order_of_their_names(ca: RunningCa):
    one_by_one = [a.name for a in ca.client(WORKLOAD).authorities.list(page_size=1)]
    assert one_by_one == sorted(one_by_one)
    assert one_by_one == [a.name for a in ca.client(WORKLOAD).authorities.list(page_size=500)]


# --- Filters ------------------------------------------------------------------------------------------------------------


def test_each_filter_selects_and_all_that_are_given_must_hold(ca: RunningCa, issued: tuple[str, list[str]]):
    profile, serials = issued
    certificates = ca.client().certificates
    by_serial = {c.serial: c for c in certificates.list(profile=profile)}
    assert set(by_serial) == set(serials)
    in_order = [by_serial[s] for s in sorted(serials)]

    def found(**filters: object) -> list[str]:
        return [c.serial for c in certificates.list(page_size=2, **{"profile": profile, **filters})]

    identity = f"n1.{profile}.test"
    of_identity = [c.serial for c in in_order if c.identity == identity]
    assert len(of_identity) == 2
    assert found(identity=identity) == of_identity
    assert [c.serial for c in certificates.list(identity=identity)] == of_identity
    end = by_serial[serials[3]].not_after
    early = [c.serial for c in in_order if c.not_after < end]
    assert found(expires_before=end) == early
    assert len(early) == 3, "`before` leaves out the one that ends right then"
    assert found(expires_before=end + timedelta(milliseconds=1)) == [c.serial for c in in_order if c.not_after <= end]
    assert found(authority="estate-issuing-1") == sorted(serials)
    assert found(authority="control-issuing-1") == []
    assert found(state=CertificateState.VALID) == sorted(serials)
    assert found(state=CertificateState.EXPIRED) == []
    assert found(identity=identity, expires_before=end, authority="estate-issuing-1") == [
        s for s in early if s in of_identity
    ]
    assert found(identity="nobody.test") == []
    assert list(certificates.list(profile=unique("none"))) == []
    assert list(certificates.list(authority=unique("none"))) == []


@pytest.mark.parametrize("identity", ["\0", "a\0b", "'; DROP TABLE certificates; --", "%", "\\", "x" * 100_000, "é"])
def test_no_identity_upsets_a_list(ca: RunningCa, identity: str):
    try:
        assert list(ca.client().certificates.list(identity=identity)) == []
    except errors.FieldInvalid as told:
        assert told.violations[0].field == "identity"  # noqa: PT017 - both answers are good


@pytest.mark.parametrize(
    "field",
    [{"authority": "x"}, {"authority": "authorities/\0"}, {"profile": "profiles/"}, {"profile": "authorities/x"}],
)
def test_what_is_no_name_filters_nothing(ca: RunningCa, field: dict[str, str]):
    told = Lists(ca).refusal(**field)
    assert (told.reason, told.violations[0].field) == ("FIELD_INVALID", next(iter(field)))


def test_the_state_follows_the_clock_to_the_second(own_ca: RunningCa):
    certificates = own_ca.client().certificates
    short = certificates.sign("server", server_csr("a.test"), lifetime=timedelta(minutes=10))
    long = certificates.sign("server", server_csr("b.test"))

    def states() -> dict[str, list[str]]:
        return {s: [c.serial for c in certificates.list(profile="server", state=s)] for s in ("valid", "expired")}

    assert states() == {"valid": sorted([short.serial, long.serial]), "expired": []}
    own_ca.clock.offset = int((short.not_after - datetime.now(UTC)).total_seconds()) - 2
    assert states()["expired"] == []
    own_ca.clock.offset += 4
    assert states() == {"valid": [long.serial], "expired": [short.serial]}
    assert certificates.get(short.serial).state is CertificateState.EXPIRED


# --- Who sees what ------------------------------------------------------------------------------------------------------


def test_a_workload_lists_what_it_asked_for_and_nothing_else(ca: RunningCa, issued: tuple[str, list[str]]):
    profile, serials = issued
    ca.client(OPERATOR).certificates.sign(profile, server_csr("other.test"))
    mine = ca.client(WORKLOAD).certificates
    assert [c.serial for c in mine.list(profile=profile)] == sorted(serials)
    assert {c.requester for c in mine.list()} == {ca.identity(WORKLOAD)}
    assert list(mine.list(profile=profile, identity="other.test")) == []
    for path in (ADMIN, OPERATOR, AUDITOR, MEMBERSHIP):
        assert len(list(ca.client(path).certificates.list(profile=profile))) == 8


def test_a_certificate_is_seen_by_its_holder_its_requester_and_those_who_watch(ca: RunningCa):
    name = unique("w")
    held = ca.client().certificates.sign("workload", make_csr(make_key(), [Name.uri(ca.identity(f"workloads/{name}"))]))
    asked = ca.client(WORKLOAD).certificates.sign("server", server_csr("web.example.test"))
    for path in (ADMIN, OPERATOR, AUDITOR, MEMBERSHIP, "services/credentials/one"):
        assert ca.client(path).certificates.get(held.serial).serial == held.serial
    assert ca.client(f"workloads/{name}").certificates.get(held.serial)
    assert ca.client(WORKLOAD).certificates.get(asked.serial)
    unknown = "4" + "f" * 31
    texts = set()
    for path in (MEMBER, f"workloads/{name}/other", "workloads/other"):
        for serial in (held.serial, asked.serial, unknown):
            told = refused(lambda path=path, serial=serial: ca.client(path).certificates.get(serial))
            assert told.reason == "CERTIFICATE_NOT_FOUND"
            texts.add(told.message.replace(serial, "SERIAL"))
    assert len(texts) == 1, "nothing tells what exists from what does not"


def test_a_member_sees_its_serving_certificate(ca: RunningCa):
    serials = [c.serial for c in ca.client().certificates.list(identity=ca.identity(MEMBER))]
    assert serials or ca.client(MEMBER)
    serials = [c.serial for c in ca.client().certificates.list(identity=ca.identity(MEMBER))]
    assert ca.client(MEMBER).certificates.get(serials[-1]).identity == ca.identity(MEMBER)


def test_every_caller_reads_authorities_and_bundles(ca: RunningCa):
    made = unique("array")
    ca.client(MEMBERSHIP).authorities.create(
        made, hierarchy=Hierarchy.STANDALONE, kind=AuthorityKind.ROOT, owner="appliances/seen", common_name=made
    )
    for path in (MEMBER, WORKLOAD, AUDITOR):
        found = ca.client(path).authorities.get(made)
        assert (found.owner, found.hierarchy) == ("appliances/seen", Hierarchy.STANDALONE)
