"""CRLs: when they change and what they contain, verified with openssl and the ledger."""

import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from keyreeve import errors
from keyreeve.keys import PrivateKey, make_key
from keyreeve.values import (
    AuthorityKind,
    CrlReason,
    Hierarchy,
    RevocationList,
    SignedCertificate,
    SignItem,
    to_pem,
)
from keyreeve_ca.certificates import serials
from keyreeve_ca.revocation import crl_publisher as revocation_lists
from keyreeve_ca.revocation.crls_sql import SqlLists
from keyreeve_chassis.settings.sections import HttpSettings
from support.programs import needs
from support.running_ca import RunningCa, refused, running, server_csr, unique
from support.waiting import wait_for

pytestmark = pytest.mark.sqlite_first

SOON = 1.0
"""Seconds within which a list says what has been revoked."""


@pytest.fixture(scope="module")
def http_ca(request: pytest.FixtureRequest) -> Iterator[RunningCa]:
    with running("sqlite", request, http=HttpSettings(port=0)) as ca:
        yield ca


def distribution_point(signed: SignedCertificate) -> tuple[str, int]:
    """Authority and shard that a certificate names."""
    leaf = x509.load_der_x509_certificate(signed.certificate_der)
    points = leaf.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    [name] = points[0].full_name or []
    authority, shard = str(name.value).removesuffix(".crl").split("/")[-2:]
    return authority, int(shard)


def listed(ca: RunningCa, authority: str, shard: int = 0) -> tuple[RevocationList, dict[str, str]]:
    """The newest list of a shard, and its entries with their reasons."""
    found = ca.client().certificates.revocation_list(authority, shard)
    entries = {}
    for one in x509.load_der_x509_crl(found.crl_der):
        reasons = [e.value.reason.name for e in one.extensions if isinstance(e.value, x509.CRLReason)]
        entries[f"{one.serial_number:032x}"] = reasons[0] if reasons else ""
    return found, entries


def sign(ca: RunningCa, key: PrivateKey | None = None) -> SignedCertificate:
    return ca.client().certificates.sign("server", server_csr(f"{unique('web')}.example.test", key=key))


def test_a_revoked_certificate_is_on_its_list_within_a_second_under_a_higher_number(ca: RunningCa) -> None:
    signed = sign(ca, make_key())  # the revocation blocks it
    authority, shard = distribution_point(signed)
    before = wait_for("a first list", lambda: _list_or_none(ca, authority, shard))
    ca.client().certificates.revoke(signed.serial, CrlReason.KEY_COMPROMISE)
    after, entries = wait_for(
        "a list with it",
        lambda: next((both for both in [listed(ca, authority, shard)] if signed.serial in both[1]), None),
        SOON,
    )
    assert entries[signed.serial] == "key_compromise"
    assert after.number > before.number
    assert after.entries == len(entries)
    issuer = x509.load_der_x509_certificate(signed.chain_der[0])
    assert x509.load_der_x509_crl(after.crl_der).is_signature_valid(issuer.public_key())  # type: ignore[arg-type]


def _list_or_none(ca: RunningCa, authority: str, shard: int | None = 0) -> RevocationList | None:
    try:
        return ca.client().certificates.revocation_list(authority, shard)
    except errors.RevocationListNotFound:
        return None


def _has_distribution_point(found: RevocationList) -> bool:
    extensions = x509.load_der_x509_crl(found.crl_der).extensions
    return any(isinstance(each.value, x509.IssuingDistributionPoint) for each in extensions)


def test_the_full_list_of_an_authority_and_the_list_of_a_root_have_no_distribution_point(http_ca: RunningCa) -> None:
    signed = sign(http_ca)
    authority, shard = distribution_point(signed)
    certificates = http_ca.client().certificates
    certificates.revoke(signed.serial, CrlReason.SUPERSEDED)

    def full() -> RevocationList | None:
        found = wait_for("a full list", lambda: _list_or_none(http_ca, authority, None))
        listed_now = x509.load_der_x509_crl(found.crl_der)
        return found if listed_now.get_revoked_certificate_by_serial_number(int(signed.serial, 16)) else None

    found = wait_for("a full list with it", full, 20)
    assert not _has_distribution_point(found)
    assert _has_distribution_point(certificates.revocation_list(authority, shard))
    root = wait_for("the root's list", lambda: _list_or_none(http_ca, "estate-root-1", None))
    assert not _has_distribution_point(root)
    assert root.crl_der == certificates.revocation_list("estate-root-1", 0).crl_der
    assert get(http_ca, f"/crl/{authority}.crl")[1] == found.crl_der


@needs("openssl")
def test_openssl_agrees_with_the_ledger(ca: RunningCa, tmp_path: Path) -> None:
    kept, gone = sign(ca), sign(ca)
    ca.client().certificates.revoke(gone.serial, CrlReason.SUPERSEDED)
    authority, shard = distribution_point(gone)
    assert distribution_point(kept) == (authority, shard)
    wait_for("a list with it", lambda: gone.serial in listed(ca, authority, shard)[1], SOON)
    found, _ = listed(ca, authority, shard)
    (tmp_path / "list.pem").write_bytes(x509.load_der_x509_crl(found.crl_der).public_bytes(Encoding.PEM))
    roots = ca.client().context.estate_bundle
    told = {}
    for which, signed in (("kept", kept), ("gone", gone)):
        (tmp_path / "leaf.pem").write_text(to_pem([signed.certificate_der]))
        (tmp_path / "chain.pem").write_text(to_pem(signed.chain_der))
        command = ["openssl", "verify", "-x509_strict", "-crl_check", "-CAfile", str(roots)]
        command += ["-untrusted", "chain.pem", "-CRLfile", "list.pem", "leaf.pem"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
        told[which] = (done.returncode == 0, (done.stdout + done.stderr).decode())
    assert told["kept"][0], told
    assert not told["gone"][0]
    assert "revoked" in told["gone"][1]


def test_there_is_no_list_of_what_does_not_exist(ca: RunningCa) -> None:
    for authority, shard in (("nobody", 0), ("estate-1", 999_999)):
        told = refused(lambda: ca.client().certificates.revocation_list(authority, shard))  # noqa: B023
        assert isinstance(told, errors.RevocationListNotFound)


def test_what_a_crashed_worker_may_have_signed_is_listed_and_what_it_stored_is_not(own_ca: RunningCa) -> None:
    signed = own_ca.issue("workloads/billing/api", make_key())
    commit_queue = own_ca.coordinator.issuance.commit_queues.of(signed.authority_id)
    assert commit_queue.block is not None
    block, used = commit_queue.block, commit_queue.counter
    own_ca.coordinator.issuance.commit_queues.used.clear()  # it knows nothing of its block, as if it had been killed
    own_ca.stop()
    own_ca.start()
    expected = {serials.serial(block.block_id, block.seed, n).hex() for n in range(used, used + 1024)}
    wait_for(
        "its phantoms on a list",
        lambda: _list_or_none(own_ca, signed.authority_id) and expected <= set(listed(own_ca, signed.authority_id)[1]),
        5.0,
    )
    _, entries = listed(own_ca, signed.authority_id)
    assert signed.serial.hex() not in entries
    assert serials.serial(block.block_id, block.seed, used + 1024).hex() not in entries
    own_ca.clock.offset = 90 * 86_400  # beyond the longest life of a profile of the block, and a list's lifetime
    wait_for("a list without them", lambda: not expected & set(entries_in_process(own_ca, signed.authority_id)), 5.0)


def test_an_orderly_end_leaves_no_phantoms(own_ca: RunningCa) -> None:
    own_ca.issue("workloads/billing/api", make_key())
    sign(own_ca)
    profile = own_ca.new_profile()  # no block that is in use is good for it
    own_ca.client().certificates.sign(profile, server_csr("a.test"))
    before = own_ca.read(lambda tx: tx.revocations.last_seq())
    own_ca.stop()
    own_ca.start()
    assert own_ca.read(lambda tx: tx.revocations.void_blocks(10)) == []
    assert own_ca.read(lambda tx: tx.revocations.last_seq()) == before


def entries_in_process(ca: RunningCa, authority: str) -> list[str]:
    """The newest list as the database has it: a moved clock locks clients out."""
    found = ca.read(lambda tx: tx.revocations.published_list((authority, 0)))
    return [f"{one.serial_number:032x}" for one in x509.load_der_x509_crl(found.der)]


def test_a_list_is_made_anew_long_before_it_ends_and_numbers_only_rise(own_ca: RunningCa) -> None:
    def state() -> tuple[int, int]:
        found = own_ca.read(lambda tx: tx.revocations.published_list(("control-root-1", 0)))
        return (found.state.number, found.state.next_update) if found else (0, 0)

    authorities = own_ca.coordinator.issuance.snapshot().authorities
    assert "control-root-1" in authorities, sorted(authorities)
    number, end = wait_for("a first list", lambda: next((s for s in [state()] if s[0]), None))
    own_ca.clock.offset = 13 * 3600
    later, later_end = wait_for("the next", lambda: next((s for s in [state()] if s[0] > number), None), 5.0)
    assert later > number
    assert later_end >= end + 12 * 3600


def test_a_revoked_intermediate_is_on_its_roots_list(own_ca: RunningCa) -> None:
    client = own_ca.client()
    made = client.authorities.create(
        "estate-9",
        hierarchy=Hierarchy.ESTATE,
        kind=AuthorityKind.INTERMEDIATE,
        issuer="estate-root-1",
        common_name="Nine",
    )
    serial = f"{x509.load_der_x509_certificate(made.certificate_der).serial_number:032x}"
    client.authorities.revoke("estate-9", CrlReason.CA_COMPROMISE)
    wait_for(
        "the root's list with it",
        lambda: _list_or_none(own_ca, "estate-root-1") and serial in listed(own_ca, "estate-root-1")[1],
        SOON + 0.5,
    )
    assert listed(own_ca, "estate-root-1")[1][serial] == "ca_compromise"


def test_a_retiring_authoritys_certificates_go_on_being_listed(own_ca: RunningCa) -> None:
    client = own_ca.client()
    signed = sign(own_ca)
    client.authorities.create(
        "estate-2",
        hierarchy=Hierarchy.ESTATE,
        kind=AuthorityKind.INTERMEDIATE,
        issuer="estate-root-1",
        common_name="Two",
    )
    client.authorities.activate("estate-2")
    authority, shard = distribution_point(signed)
    client.authorities.retire(authority)
    client.certificates.revoke(signed.serial, CrlReason.CESSATION_OF_OPERATION)
    wait_for("a list with it", lambda: signed.serial in listed(own_ca, authority, shard)[1], SOON + 0.5)


def get(ca: RunningCa, path: str, **headers: str) -> tuple[int, bytes, dict[str, str]]:
    url = f"http://127.0.0.1:{ca.coordinator.http_port}{path}"
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=20) as answer:
            return answer.status, answer.read(), dict(answer.headers)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(), dict(error.headers)


def test_plain_http_answers_the_lists_bytes_and_lets_caches_keep_them(http_ca: RunningCa) -> None:
    authority, shard = distribution_point(sign(http_ca))
    wait_for("a first list", lambda: _list_or_none(http_ca, authority, shard))
    status, body, headers = get(http_ca, f"/crl/{authority}/{shard}.crl")
    found = http_ca.client().certificates.revocation_list(authority, shard)
    assert (status, body, headers["Content-Type"]) == (200, found.crl_der, "application/pkix-crl")
    assert headers["Cache-Control"] == "public, max-age=60"
    status, body, _ = get(http_ca, f"/crl/{authority}/{shard}.crl", **{"If-None-Match": headers["ETag"]})
    assert (status, body) == (304, b"")


def test_plain_http_answers_authorities_and_bundles_and_nothing_else(http_ca: RunningCa) -> None:
    client = http_ca.client()
    for authority in client.authorities.list():
        last = authority.name.removeprefix("authorities/")
        assert get(http_ca, f"/ca/{last}.crt")[:2] == (200, authority.certificate_der)
    assert get(http_ca, "/bundle.pem")[:2] == (200, client.authorities.bundle("control").pem().encode())
    assert get(http_ca, "/estate-bundle.pem")[:2] == (200, client.authorities.bundle("estate").pem().encode())
    for path in ("/", "/crl/estate-1/999.crl", "/crl/../ca.db", "/ca/nobody.crt", "/crl/estate-1/0.crl/x", "/metrics"):
        assert get(http_ca, path)[0] == 404, path


def test_a_shard_that_goes_on_changing_rests_between_two_lists_and_nothing_is_forgotten(
    own_ca: RunningCa, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[dict[str, int]] = []
    shards = SqlLists.shards

    def counting(self: SqlLists) -> dict[str, int]:
        passes.append(shards(self))
        return passes[-1]

    signed = sign(own_ca)
    authority, shard = distribution_point(signed)
    wait_for("a first list", lambda: _list_or_none(own_ca, authority, shard))
    monkeypatch.setattr(revocation_lists, "_GAP", 3600.0)
    own_ca.client().certificates.revoke(signed.serial, CrlReason.SUPERSEDED)
    monkeypatch.setattr(SqlLists, "shards", counting)
    wait_for("some passes", lambda: len(passes) >= 3)
    assert signed.serial not in listed(own_ca, authority, shard)[1]
    monkeypatch.setattr(revocation_lists, "_GAP", 0.0)
    wait_for("a list with it", lambda: signed.serial in listed(own_ca, authority, shard)[1])
    number = listed(own_ca, authority, shard)[0].number
    seen = len(passes)
    wait_for("some passes", lambda: len(passes) >= seen + 3)
    assert listed(own_ca, authority, shard)[0].number == number, "what is said is not said again"


def test_a_list_of_several_pages_holds_every_entry(own_ca: RunningCa, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(revocation_lists, "_PAGE", 2)
    items = [SignItem("server", server_csr(f"{unique('web')}.example.test")) for _ in range(6)]
    made = [one for one in own_ca.client().certificates.sign_many(items) if isinstance(one, SignedCertificate)]
    for one in made:
        own_ca.client().certificates.revoke(one.serial, CrlReason.SUPERSEDED)
    authority, shard = distribution_point(made[0])
    wait_for("all of them", lambda: {one.serial for one in made} == set(listed(own_ca, authority, shard)[1]))
