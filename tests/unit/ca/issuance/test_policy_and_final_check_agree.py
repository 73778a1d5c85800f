"""Certificates that the policy allows pass the final check and full linting."""

from dataclasses import replace

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st

from keyreeve.errors import KeyreeveError
from keyreeve.values import Name, NameType
from keyreeve_ca.certificates.final_check import FinalCheck
from keyreeve_ca.certificates.linter import lint_certificate
from keyreeve_ca.certificates.sample_names import sample_names
from keyreeve_ca.certificates.serials import serial
from keyreeve_ca.certificates.template import Template
from keyreeve_ca.issuance.policy import plan_certificate
from keyreeve_ca.profiles.builtin import BUILTIN_NAMES, builtin_profiles
from keyreeve_ca.profiles.profile import ProfileVersion
from keyreeve_ca.requests.csr import read_csr
from keyreeve_ca.requests.key_rules import KnownKeys
from keyreeve_chassis.keys.key_types import KeyType
from support.certificate_plans import NOW, SEED, TRUST_DOMAIN, authority, dns, private_key, uri

PROFILES = {
    name: ProfileVersion(name, 1, sha256, document, profile)
    for name, (document, sha256, profile) in builtin_profiles(TRUST_DOMAIN).items()
}
KEY = private_key(KeyType.P256)
assert isinstance(KEY, ec.EllipticCurvePrivateKey)
CSR = read_csr(
    x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(KEY, SHA256()).public_bytes(Encoding.DER)
)

label = st.sampled_from(
    (
        "a",
        "ca",
        "b-2",
        "0x",
        "1",
        "svc",
        "probe",
        "example",
        "test",
        "x" * 63,
        "xn--a",
        "*",
        "A",
        "a_b",
        "",
        "-a",
        "membership",
    )
)
suffix = st.sampled_from(
    ("", ".example.test", ".svc.example.test", ".probe.example.test", ".example.org", ".svc.example.testing")
)
host = st.builds(lambda labels, end: ".".join(labels) + end, st.lists(label, max_size=3), suffix)
segment = st.sampled_from(
    ("a", "services", "ca", "operators", "admin", "members", "workloads", "A", "..", "%61", "a.b", "1", "")
)
path = st.lists(segment, max_size=4).map("/".join)
text_uri = st.builds(
    "{}://{}/{}".format,
    st.sampled_from(("spiffe", "https", "http", "SPIFFE")),
    st.one_of(st.just("example.test"), host),
    st.one_of(path, st.sampled_from(("services/ca/1", "members/a.example.test", "operators/admin/x", "workloads/a/b"))),
)
name = st.one_of(
    st.builds(Name, st.just(NameType.DNS), host),
    st.builds(Name, st.just(NameType.URI), text_uri),
    st.builds(
        Name,
        st.just(NameType.IP),
        st.one_of(st.ip_addresses().map(str), st.sampled_from(("::1", "127.0.0.1", "01.2.3.4"))),
    ),
    st.builds(
        Name, st.just(NameType.EMAIL), st.builds("{}@{}".format, st.sampled_from(("a", "a.b", "", "a b", "a+b")), host)
    ),
)


LIKELY = {
    "service": (*dns("ca.svc.example.test", "gateway.svc.example.test"), *uri("spiffe://example.test/services/ca/1")),
    "operator": uri("spiffe://example.test/operators/admin/x", "spiffe://example.test/operators/auditor/x-y"),
    "member": uri("spiffe://example.test/members/a.example.test", "spiffe://example.test/members/localhost"),
    "workload": uri("spiffe://example.test/workloads/a", "spiffe://example.test/workloads/a/b.c/d_e"),
    "probe": dns("a.probe.example.test", "svc.probe.example.test"),
}


@st.composite
def requests(draw):
    """A profile with names of which most might be in order for it."""
    profile = draw(st.sampled_from(BUILTIN_NAMES))
    pool = (*sample_names(PROFILES[profile].profile, TRUST_DOMAIN)[-1], *LIKELY.get(profile, ()) * 9)
    spoilt = st.builds(
        lambda good, position, what: replace(good, value=good.value[:position] + what + good.value[position:]),
        st.sampled_from(pool),
        st.integers(0, 40),
        st.sampled_from(("a", ".", "-", "/", "%", "*", "1", ".svc", "x.")),
    )
    several = st.lists(st.one_of(st.sampled_from(pool), st.sampled_from(pool), spoilt, name), min_size=1, max_size=3)
    return profile, draw(several)


@given(request=requests())
@settings(max_examples=400, deadline=None)
def test_the_final_check_passes_whatever_policy_decides(request):
    profile, names = request
    version = PROFILES[profile]
    issuer = authority(version.profile.hierarchy).issuer
    try:
        plan = plan_certificate(
            version,
            CSR,
            extra_names=names,
            lifetime=None,
            now=NOW,
            issuer=issuer,
            trust_domain=TRUST_DOMAIN,
            known=KnownKeys(),
        )
    except KeyreeveError:
        return
    number = serial(1, SEED, 1)
    template = Template(version, issuer)
    tbs = template.tbs(plan, number, 1)
    FinalCheck(version, issuer, TRUST_DOMAIN).check_tbs(tbs, plan, number, 1)
    assert lint_certificate(template.certificate(tbs, authority(version.profile.hierarchy).signer.sign(tbs))) == []
