"""SignCertificate through the whole service: access, results and refusals."""

import itertools
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import verification
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID

from keyreeve import Name, errors
from keyreeve.identity import Role
from keyreeve.keys import make_csr, make_key
from keyreeve.values import AuthorityKind, Hierarchy, SignedCertificate, to_pem
from keyreeve_ca.profiles.builtin import BUILTIN_NAMES
from keyreeve_chassis.keys.key_types import KeyType
from support.access_matrix import PATHS
from support.certificate_plans import private_key
from support.running_ca import ADMIN, MEMBERSHIP, OPERATOR, RunningCa, refused, server_csr, some_key, unique

pytestmark = pytest.mark.sqlite_first

DAY = 86_400
SIGNERS = {Role.ADMIN, Role.OPERATOR, Role.WORKLOAD, Role.MEMBER, Role.CA, Role.MEMBERSHIP, Role.CREDENTIALS}
REQUESTERS = {
    "service": {Role.CA},
    "enrollment": {Role.CA},
    "operator": {Role.CA},
    "member": {Role.ADMIN, Role.CA},
    "workload": {Role.ADMIN, Role.CA},
    "probe": {Role.MEMBERSHIP},
    "peer-check": {Role.MEMBERSHIP},
    "array-peer": {Role.MEMBERSHIP},
    "server": {Role.ADMIN, Role.OPERATOR, Role.WORKLOAD, Role.MEMBER},
    "client": {Role.ADMIN, Role.OPERATOR, Role.WORKLOAD},
    "mtls": {Role.ADMIN, Role.OPERATOR, Role.WORKLOAD, Role.MEMBER},
}


def parsed(signed: SignedCertificate) -> x509.Certificate:
    return x509.load_der_x509_certificate(signed.certificate_der)


def seconds_of(certificate: x509.Certificate) -> int:
    """How long it is valid, counting both ends (RFC 5280, 4.1.2.5)."""
    return int((certificate.not_valid_after_utc - certificate.not_valid_before_utc).total_seconds()) + 1


def assert_openssl_accepts(signed: SignedCertificate, bundle: Path, directory: Path, purpose: str) -> None:
    (directory / "leaf.pem").write_text(to_pem([signed.certificate_der]))
    command = ["openssl", "verify", "-x509_strict", "-purpose", purpose, "-CAfile", str(bundle)]
    if signed.chain_der:
        (directory / "chain.pem").write_text(to_pem(signed.chain_der))
        command += ["-untrusted", str(directory / "chain.pem")]
    done = subprocess.run([*command, str(directory / "leaf.pem")], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode() + done.stdout.decode()


def standalone(ca: RunningCa) -> str:
    """An active CA that belongs to an array."""
    authority_id, membership = unique("array"), ca.client(MEMBERSHIP)
    membership.authorities.create(
        authority_id,
        hierarchy=Hierarchy.STANDALONE,
        kind=AuthorityKind.ROOT,
        common_name=authority_id,
        owner=f"appliances/{authority_id}",
    )
    membership.authorities.activate(authority_id)
    return authority_id


# --- Every profile ------------------------------------------------------------------------------------------------------


def test_the_requesters_of_this_test_are_those_of_every_built_in_profile():
    assert set(REQUESTERS) == set(BUILTIN_NAMES)


@pytest.mark.parametrize("role", Role, ids=lambda role: role.value)
def test_a_profile_is_for_those_it_lists_and_for_no_other_role(ca: RunningCa, role: Role):
    certificates = ca.client(PATHS[role]).certificates
    for profile, allowed in REQUESTERS.items():
        # A request without a name gets no further than who may ask.
        told = refused(lambda profile=profile: certificates.sign(profile, server_csr()))
        if role not in SIGNERS:
            assert told.reason == "ACCESS_DENIED"
        elif role not in allowed:
            assert told.reason == "PROFILE_NOT_ALLOWED"
            assert set(told.metadata["allowed"].split(", ")) == {r.value for r in allowed}
        else:
            assert told.reason in {"NAME_MISSING", "FIELD_INVALID"}


def test_a_member_gets_a_server_certificate_for_its_own_name_and_for_no_other(ca: RunningCa):
    certificates = ca.client("members/web.example.test").certificates
    own = parsed(certificates.sign("server", server_csr("web.example.test")))
    names = own.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["web.example.test"]
    for others in (["db.example.test"], ["web.example.test", "db.example.test"], ["*.example.test"]):
        told = refused(lambda others=others: certificates.sign("server", server_csr(*others)))
        assert told.reason == "NAME_REFUSED"
        assert told.violations
    address = refused(lambda: certificates.sign("mtls", server_csr("web.example.test"), names=[Name.ip("10.0.0.1")]))
    assert address.reason == "NAME_REFUSED"
    both = parsed(certificates.sign("mtls", server_csr("web.example.test")))
    usages = both.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(usages) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}


@pytest.mark.parametrize(
    ("path", "profile", "wanted"),
    [
        ("services/ca/one", "service", "spiffe://example.test/services/gateway/two"),
        (ADMIN, "member", "spiffe://example.test/members/db.example.test"),
        (ADMIN, "workload", "spiffe://example.test/workloads/a/b/c"),
    ],
)
def test_a_control_certificate_verifies_and_identifies(
    ca: RunningCa, tmp_path: Path, path: str, profile: str, wanted: str
):
    key = make_key()
    names = [Name.uri(wanted)]
    if profile == "service":
        names.append(Name.dns("gateway.svc.example.test"))
    signed = ca.client(path).certificates.sign(profile, make_csr(key, names))
    certificate = parsed(signed)
    purpose = "sslserver" if profile == "service" else "sslclient"
    assert_openssl_accepts(signed, ca.context(ADMIN).bundle, tmp_path, purpose)
    san = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert san.get_values_for_type(x509.UniformResourceIdentifier) == [wanted]
    assert list(certificate.subject) == []
    assert ca.client().certificates.get(signed.serial).identity == wanted
    assert signed.authority == "authorities/control-issuing-1"


@pytest.mark.parametrize("profile", ["array-peer", "probe", "peer-check"])
def test_a_stand_alone_authority_signs_for_the_membership_service(ca: RunningCa, tmp_path: Path, profile: str):
    authority_id = standalone(ca)
    name = "one.example.test" if profile == "array-peer" else "a1.probe.example.test"
    certificates = ca.client(MEMBERSHIP).certificates
    told = refused(lambda: certificates.sign(profile, server_csr(name)))
    assert (told.reason, told.violations[0].field) == ("FIELD_INVALID", "authority")
    signed = certificates.sign(profile, server_csr(name), authority=authority_id)
    assert signed.chain_der == ()
    bundle = tmp_path / "array.pem"
    bundle.write_text(to_pem(ca.client().authorities.export(authority_id)))
    assert_openssl_accepts(signed, bundle, tmp_path, "sslclient" if profile == "peer-check" else "sslserver")
    common_names = [a.value for a in parsed(signed).subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    assert common_names == ([name] if profile == "array-peer" else [])


# --- Keys and forms -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key_type", KeyType)
def test_every_type_of_key_that_the_profile_lists_gets_a_certificate(ca: RunningCa, tmp_path: Path, key_type: KeyType):
    csr = make_csr(private_key(key_type), [Name.dns("web.example.test"), Name.ip("192.0.2.7")])
    signed = ca.client(OPERATOR).certificates.sign("server", csr)
    certificate = parsed(signed)
    assert certificate.public_key() == private_key(key_type).public_key()
    assert_openssl_accepts(signed, ca.context(ADMIN).estate_bundle, tmp_path, "sslserver")
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert usage.value.digital_signature
    assert usage.value.key_encipherment == key_type.is_rsa


@pytest.mark.parametrize("key_type", [KeyType.P256, KeyType.P384, KeyType.RSA2048])
def test_another_librarys_verifier_accepts_the_chain_for_its_name_alone(ca: RunningCa, key_type: KeyType):
    csr = make_csr(private_key(key_type), [Name.dns("web.example.test")])
    signed = ca.client().certificates.sign("server", csr)
    roots = x509.load_pem_x509_certificates(ca.context(ADMIN).estate_bundle.read_bytes())
    chain = [x509.load_der_x509_certificate(der) for der in signed.chain_der]
    builder = verification.PolicyBuilder().store(verification.Store(roots))
    builder.build_server_verifier(x509.DNSName("web.example.test")).verify(parsed(signed), chain)
    with pytest.raises(verification.VerificationError):
        builder.build_server_verifier(x509.DNSName("other.example.test")).verify(parsed(signed), chain)
    control = x509.load_pem_x509_certificates(ca.context(ADMIN).bundle.read_bytes())
    of_control = verification.PolicyBuilder().store(verification.Store(control))
    with pytest.raises(verification.VerificationError):
        of_control.build_server_verifier(x509.DNSName("web.example.test")).verify(parsed(signed), chain)


@pytest.mark.parametrize("key_type", [KeyType.P384, KeyType.RSA2048, KeyType.ED25519])
def test_a_key_that_the_profile_does_not_list_is_refused_with_those_it_does(ca: RunningCa, key_type: KeyType):
    profile = ca.profile(keys=["p256"])
    csr = make_csr(private_key(key_type), [Name.dns("web.example.test")])
    told = refused(lambda: ca.client().certificates.sign(profile, csr))
    assert (told.reason, told.metadata["allowed"], told.metadata["key_type"]) == ("KEY_TYPE_REFUSED", "p256", key_type)


def test_ed25519_is_refused_in_the_control_hierarchy(ca: RunningCa):
    csr = make_csr(private_key(KeyType.ED25519), [Name.uri("spiffe://example.test/workloads/x")])
    assert refused(lambda: ca.client().certificates.sign("workload", csr)).reason == "KEY_TYPE_REFUSED"


def test_the_keys_of_the_authorities_are_refused_to_others(ca: RunningCa):
    # Nobody but the CA can prove possession of its key, so what is refused here is the request as a whole.
    certificate = x509.load_der_x509_certificate(ca.client().authorities.get("estate-issuing-1").certificate_der)
    forged = server_csr("web.example.test").replace(_point(some_key().public_key()), _point(certificate.public_key()))
    assert refused(lambda: ca.client().certificates.sign("server", forged)).reason == "KEY_BLOCKED"


def _point(key: object) -> bytes:
    assert isinstance(key, ec.EllipticCurvePublicKey)
    numbers = key.public_numbers()
    return numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")


def test_der_and_pem_of_a_request_are_signed_alike(ca: RunningCa):
    der = server_csr("web.example.test")
    pem = x509.load_der_x509_csr(der).public_bytes(Encoding.PEM)
    first, second = (ca.client().certificates.sign("server", form) for form in (der, pem))
    assert parsed(first).public_key() == parsed(second).public_key()
    assert first.serial != second.serial


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "CSR_MALFORMED"),
        (b"\x30", "CSR_MALFORMED"),
        (b"\xff\xd8\xff\xe0 a picture", "CSR_MALFORMED"),
        (b"\x30\x80\x00\x00", "CSR_MALFORMED"),
        (b"-----BEGIN CERTIFICATE REQUEST-----\n", "CSR_MALFORMED"),
        (b"\x30" + b"\0" * 100_000, "CSR_TOO_LARGE"),
    ],
)
def test_what_is_no_request_is_refused(ca: RunningCa, data: bytes, reason: str):
    assert refused(lambda: ca.client().certificates.sign("server", data)).reason == reason


def test_a_request_signed_by_another_key_is_refused(ca: RunningCa):
    der = bytearray(server_csr("web.example.test"))
    der[-1] ^= 1
    assert refused(lambda: ca.client().certificates.sign("server", bytes(der))).reason == "CSR_SIGNATURE_INVALID"


# --- Lifetimes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "granted"), [(300, False), (301, True), (302, True), (60 * DAY, True), (60 * DAY + 1, False)]
)
def test_lifetimes_are_granted_whole_between_the_bounds_and_refused_outside(ca: RunningCa, seconds: int, granted: bool):
    profile = ca.profile()
    requested = timedelta(seconds=seconds)
    if not granted:
        told = refused(lambda: ca.client().certificates.sign(profile, server_csr("a.test"), lifetime=requested))
        assert (told.reason, told.metadata["max_seconds"], told.metadata["min_seconds"]) == (
            "LIFETIME_REFUSED",
            str(60 * DAY),
            "301",
        )
        return
    assert (
        seconds_of(parsed(ca.client().certificates.sign(profile, server_csr("a.test"), lifetime=requested))) == seconds
    )


def test_without_a_requested_lifetime_the_default_applies_backdated_five_minutes(ca: RunningCa):
    signed = ca.client().certificates.sign(ca.profile(), server_csr("a.test"))
    certificate = parsed(signed)
    assert seconds_of(certificate) == 30 * DAY
    age = datetime.now(UTC) - certificate.not_valid_before_utc
    assert timedelta(minutes=5) <= age < timedelta(minutes=6)
    life = signed.not_after - signed.not_before
    assert signed.not_before + life * 0.66 < signed.renew_at < signed.not_before + life * 0.78


@pytest.mark.parametrize("seconds", [0, -1])
def test_a_lifetime_that_is_none_is_refused(ca: RunningCa, seconds: int):
    told = refused(
        lambda: ca.client().certificates.sign("server", server_csr("a.test"), lifetime=timedelta(seconds=seconds))
    )
    assert told.reason == "FIELD_INVALID"
    assert told.violations[0].field == "item.lifetime"


def short_lived_authority(ca: RunningCa, life: timedelta) -> str:
    authority_id = unique("short")
    ca.client(MEMBERSHIP).authorities.create(
        authority_id,
        hierarchy=Hierarchy.STANDALONE,
        kind=AuthorityKind.ROOT,
        common_name=authority_id,
        owner="appliances/short",
        lifetime=life,
    )
    ca.client(MEMBERSHIP).authorities.activate(authority_id)
    return authority_id


def test_a_certificate_never_outlives_its_issuer(ca: RunningCa):
    authority_id = short_lived_authority(ca, timedelta(days=2))
    authority = ca.client().authorities.get(authority_id)
    certificates = ca.client(MEMBERSHIP).certificates
    signed = certificates.sign("array-peer", server_csr("a.test"), authority=authority_id)
    assert signed.not_after == authority.not_after, "the default is cut at the issuer's end"
    told = refused(
        lambda: certificates.sign(
            "array-peer", server_csr("a.test"), authority=authority_id, lifetime=timedelta(days=3)
        )
    )
    assert told.reason == "AUTHORITY_EXPIRING"
    left = int(told.metadata["max_seconds"])
    # The requested lifetime may end in the last second; at most a few seconds pass between the two calls.
    close = certificates.sign(
        "array-peer", server_csr("a.test"), authority=authority_id, lifetime=timedelta(seconds=left - 5)
    )
    assert close.not_after <= authority.not_after


def test_an_authority_that_ends_too_soon_for_a_tenth_of_the_default_signs_nothing(ca: RunningCa):
    authority_id = short_lived_authority(ca, timedelta(hours=3))
    told = refused(
        lambda: ca.client(MEMBERSHIP).certificates.sign("array-peer", server_csr("a.test"), authority=authority_id)
    )
    assert told.reason == "AUTHORITY_EXPIRING"


# --- Authorities and profiles that do not fit ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("profile", "authority", "reason"),
    [
        ("nothing-like-it", None, "PROFILE_NOT_FOUND"),
        ("server", "nothing-like-it", "AUTHORITY_NOT_FOUND"),
        ("server", "control-issuing-1", "AUTHORITY_STATE_WRONG"),
        ("server", "estate-root-1", "AUTHORITY_STATE_WRONG"),
        ("server/x", None, "FIELD_INVALID"),
        ("profiles/", None, "FIELD_INVALID"),
        ("\0", None, "FIELD_INVALID"),
        ("server", "\0", "FIELD_INVALID"),
    ],
)
def test_a_profile_or_authority_that_does_not_fit_is_refused(
    ca: RunningCa, profile: str, authority: str | None, reason: str
):
    told = refused(lambda: ca.client().certificates.sign(profile, server_csr("web.example.test"), authority=authority))
    assert told.reason == reason


def test_a_pending_authority_signs_nothing(ca: RunningCa):
    authority_id = unique("pending")
    ca.client().authorities.create(
        authority_id,
        hierarchy=Hierarchy.ESTATE,
        kind=AuthorityKind.INTERMEDIATE,
        issuer="estate-root-1",
        common_name=authority_id,
    )
    told = refused(lambda: ca.client().certificates.sign("server", server_csr("a.test"), authority=authority_id))
    assert (told.reason, told.metadata["state"]) == ("AUTHORITY_STATE_WRONG", "pending")


# --- What it looks like -------------------------------------------------------------------------------------------------


def test_the_contents_of_a_certificate_are_what_the_profile_and_its_authority_say(ca: RunningCa):
    before = datetime.now(UTC)
    csr = make_csr(some_key(), [Name.dns("web.example.test")], common_name="web.example.test")
    signed = ca.client().certificates.sign("server", csr)
    certificate = parsed(signed)
    authority = x509.load_der_x509_certificate(ca.client().authorities.get(signed.authority).certificate_der)
    found = {type(extension.value): extension for extension in certificate.extensions}
    assert len(found) == 8
    assert found[x509.BasicConstraints].critical
    assert not found[x509.BasicConstraints].value.ca
    assert list(found[x509.ExtendedKeyUsage].value) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert not found[x509.SubjectAlternativeName].critical
    issuer_id = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    assert found[x509.AuthorityKeyIdentifier].value.key_identifier == issuer_id
    own_id = x509.SubjectKeyIdentifier.from_public_key(certificate.public_key()).digest
    assert len(found[x509.SubjectKeyIdentifier].value.digest) == len(own_id) == 20
    [point] = found[x509.CRLDistributionPoints].value
    assert point.full_name is not None
    base = ca.settings.http_url
    shard = point.full_name[0].value.removeprefix(f"{base}/crl/{authority_name(signed)}/").removesuffix(".crl")
    assert shard.isdecimal(), point.full_name[0].value
    access = [(a.access_method, a.access_location.value) for a in found[x509.AuthorityInformationAccess].value]
    assert access == [
        (AuthorityInformationAccessOID.OCSP, f"{base}/ocsp"),
        (AuthorityInformationAccessOID.CA_ISSUERS, f"{base}/ca/{authority_name(signed)}.crt"),
    ]
    assert certificate.issuer == authority.subject
    assert [a.rfc4514_string() for a in certificate.subject] == ["CN=web.example.test"]
    assert certificate.version is x509.Version.v3
    assert len(signed.serial) == 32
    assert certificate.serial_number == int(signed.serial, 16)
    assert certificate.serial_number >> 126 == 1, "positive, of 16 octets"
    assert certificate.not_valid_before_utc <= before
    assert signed.chain_der == (ca.client().authorities.get(signed.authority).certificate_der,)


def authority_name(signed: SignedCertificate) -> str:
    return signed.authority.removeprefix("authorities/")


def test_what_is_in_the_ledger_is_what_was_answered(ca: RunningCa):
    signed = ca.client(OPERATOR).certificates.sign("server", server_csr("web.example.test"))
    for worker, path in itertools.product((0, 1), (ADMIN, OPERATOR)):
        entry = ca.client(path, worker=worker).certificates.get(signed.serial)
        assert entry.certificate_der == signed.certificate_der
        assert entry.requester == ca.identity(OPERATOR)
        assert (entry.profile, entry.profile_version, entry.renews) == ("profiles/server", 1, "")
        assert (entry.not_before, entry.not_after) == (signed.not_before, signed.not_after)


def test_an_error_says_which_class_of_the_sdk_it_is(ca: RunningCa):
    with pytest.raises(errors.ProfileNotFound, match="nothing-like-it"):
        ca.client().certificates.sign("nothing-like-it", server_csr("a.test"))
