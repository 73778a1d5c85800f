"""RenewCertificate: callers, proofs, repeated calls, and what a renewal preserves."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import grpc
import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from keyreeve import Client, Context, Name, errors
from keyreeve.ca.v1 import certificate_service_pb2 as pb
from keyreeve.ca.v1 import certificate_service_pb2_grpc as stubs
from keyreeve.keys import PrivateKey, csr_spki, load_key, make_csr, make_key, sign_renewal
from keyreeve.request_ids import new_request_id
from keyreeve.status import error_from_rpc
from keyreeve.values import Certificate, SignedCertificate
from keyreeve_chassis.keys.key_types import KeyType
from support.certificate_plans import private_key
from support.running_ca import (
    ADMIN,
    MEMBER,
    OPERATOR,
    TRUST_DOMAIN,
    WORKLOAD,
    RunningCa,
    document,
    refused,
    server_csr,
)

pytestmark = pytest.mark.sqlite_first

UNKNOWN = "4" + "0" * 31


def held(client: Client) -> str:
    """Serial number of the certificate that a client shows."""
    leaf = x509.load_pem_x509_certificates(client.context.certificate.read_bytes())[0]
    return f"{leaf.serial_number:032x}"


def parsed(signed: SignedCertificate | Certificate) -> x509.Certificate:
    return x509.load_der_x509_certificate(signed.certificate_der)


# --- The control hierarchy ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [OPERATOR, MEMBER, WORKLOAD, "services/credentials/one"])
def test_a_holder_renews_with_the_certificate_itself_and_with_a_new_key(ca: RunningCa, path: str):
    client, key = ca.new_client(path), make_key()
    old, signed = held(client), client.certificates.renew(held(client), make_csr(key))
    new, before = client.certificates.get(signed.serial), client.certificates.get(old)
    assert (new.identity, new.profile, new.renews) == (ca.identity(path), before.profile, f"certificates/{old}")
    assert new.requester == ca.identity(path)
    san = x509.SubjectAlternativeName
    assert parsed(new).extensions.get_extension_for_class(san) == parsed(before).extensions.get_extension_for_class(san)
    assert parsed(new).public_key() == key.public_key()


def test_a_holder_may_keep_its_key(ca: RunningCa):
    client = ca.new_client(WORKLOAD)
    signed = client.certificates.renew(held(client), make_csr(load_key(client.context.key)))
    assert client.certificates.get(signed.serial).renews == f"certificates/{held(client)}"


def test_no_other_certificate_of_the_same_identity_renews(ca: RunningCa):
    first, second = ca.new_client(WORKLOAD), ca.new_client(WORKLOAD)
    for client in (second, ca.client(ADMIN), ca.client("services/ca/one")):
        told = refused(lambda client=client: client.certificates.renew(held(first), make_csr(make_key())))
        assert told.reason == "RENEWAL_NOT_ALLOWED"


def test_the_key_of_another_identity_is_refused(ca: RunningCa):
    client, other = ca.new_client(WORKLOAD), ca.new_client(MEMBER)
    told = refused(lambda: client.certificates.renew(held(client), make_csr(load_key(other.context.key))))
    assert told.reason == "KEY_REUSED"
    assert client.certificates.renew(held(client), make_csr(make_key())), "the refusal renewed nothing"


def test_after_a_new_key_the_old_one_and_a_third_are_refused_and_the_new_one_gets_the_same(ca: RunningCa):
    client, key = ca.new_client(WORKLOAD), make_key()
    signed = client.certificates.renew(held(client), make_csr(key))
    for other in (load_key(client.context.key), make_key()):
        told = refused(lambda other=other: client.certificates.renew(held(client), make_csr(other)))
        assert told.reason == "RENEWAL_SUPERSEDED"
    # A reply that was lost together with the request's id: the same new key is answered the same certificate.
    assert client.certificates.renew(held(client), make_csr(key)).certificate_der == signed.certificate_der


def test_two_renewals_at_once_with_different_keys_have_one_winner(ca: RunningCa):
    client, keys = ca.new_client(WORKLOAD), [make_key() for _ in range(6)]
    other = Client(_at_worker(ca, client, 1))

    def renew(n: int) -> str:
        try:
            return (client, other)[n % 2].certificates.renew(held(client), make_csr(keys[n % 6])).serial
        except errors.RenewalSuperseded:
            return ""

    with other, ThreadPoolExecutor(8) as threads:
        serials = set(threads.map(renew, range(12))) - {""}
    assert len(serials) == 1


def _at_worker(ca: RunningCa, client: Client, worker: int) -> Context:
    return replace(client.context, endpoints={"ca": f"127.0.0.1:{ca.servings[worker].port}"})


def test_a_renewal_may_repeat_its_names_and_hold_no_others(ca: RunningCa):
    client = ca.new_client(WORKLOAD)
    names = [Name.uri(ca.identity(WORKLOAD)), Name.uri(ca.identity("workloads/else"))]
    told = refused(lambda: client.certificates.renew(held(client), make_csr(make_key(), names)))
    assert told.reason == "NAME_REFUSED"
    assert "workloads/else" in told.violations[0].description
    assert client.certificates.renew(held(client), make_csr(make_key(), names[:1]))


# --- Other hierarchies --------------------------------------------------------------------------------------------------------


def issued(ca: RunningCa, key: PrivateKey, path: str = OPERATOR, **requested_extensions: object) -> SignedCertificate:
    return ca.client(path).certificates.sign("server", server_csr("web.example.test", key=key), **requested_extensions)


@pytest.mark.parametrize("key_type", KeyType)
def test_the_old_keys_word_renews_for_a_new_one(ca: RunningCa, key_type: KeyType):
    old = issued(ca, private_key(key_type))
    certificates = ca.client(OPERATOR, worker=1).certificates
    signed = certificates.renew(old.serial, make_csr(make_key()), old_key=private_key(key_type))
    assert certificates.get(signed.serial).renews == old.name
    assert signed.authority == certificates.get(signed.serial).authority


def test_without_a_proof_the_answer_is_a_nonce(ca: RunningCa):
    old = issued(ca, make_key())
    told = refused(lambda: ca.client(OPERATOR).certificates.renew(old.serial, make_csr(make_key())))
    assert told.reason == "RENEWAL_PROOF_REQUIRED"
    assert told.metadata["nonce"]


def test_another_key_than_the_old_one_proves_nothing(ca: RunningCa):
    old = issued(ca, make_key())
    told = refused(lambda: ca.client(OPERATOR).certificates.renew(old.serial, make_csr(make_key()), old_key=make_key()))
    assert told.reason == "RENEWAL_PROOF_INVALID"


def test_a_certificate_of_another_requester_cannot_be_told_from_an_unknown_one(ca: RunningCa):
    key = make_key()
    old = issued(ca, key)
    for path in (ADMIN, WORKLOAD, "operators/operator/other"):
        texts = set()
        for serial in (old.serial, UNKNOWN):
            renew = ca.client(path).certificates.renew
            told = refused(lambda serial=serial, renew=renew: renew(serial, make_csr(make_key()), old_key=key))
            assert told.reason == "CERTIFICATE_NOT_FOUND"
            texts.add(told.message.replace(serial, "SERIAL"))
        assert len(texts) == 1


class Raw:
    """Renewals whose proofs are made by hand."""

    def __init__(self, ca: RunningCa, path: str = OPERATOR) -> None:
        self._stub = stubs.CertificateServiceStub(ca.channel(path))

    def renew(self, serial: str, csr: bytes, proof: pb.RenewalProof | None = None, request_id: str = ""):
        request = pb.RenewCertificateRequest(
            name=f"certificates/{serial}", csr=csr, proof=proof, request_id=request_id or new_request_id()
        )
        return self._stub.RenewCertificate(request, timeout=20)

    def refusal(self, serial: str, csr: bytes, proof: pb.RenewalProof | None = None) -> errors.KeyreeveError:
        with pytest.raises(grpc.RpcError) as caught:
            self.renew(serial, csr, proof)
        return error_from_rpc(caught.value, "ca")

    def nonce(self, serial: str, csr: bytes) -> str:
        return self.refusal(serial, csr).metadata["nonce"]


def proof_of(key: PrivateKey, serial: str, csr: bytes, nonce: str, trust_domain: str = TRUST_DOMAIN) -> pb.RenewalProof:
    signature = sign_renewal(
        key, trust_domain=trust_domain, serial=bytes.fromhex(serial), new_spki=csr_spki(csr), nonce=nonce
    )
    return pb.RenewalProof(nonce=nonce, signature=signature)


def test_a_proof_is_bound_to_key_certificate_caller_and_trust_domain(ca: RunningCa):
    key, raw = make_key(), Raw(ca)
    old, other = issued(ca, key).serial, issued(ca, key).serial
    csr, other_csr = make_csr(make_key()), make_csr(make_key())
    nonce = raw.nonce(old, csr)
    strangers = issued(ca, key, path=ADMIN).serial
    for proof in (
        proof_of(key, old, other_csr, nonce),
        proof_of(key, other, csr, nonce),
        proof_of(key, old, csr, nonce, trust_domain="other.test"),
        proof_of(key, old, csr, raw.nonce(other, csr)),
        proof_of(key, old, csr, Raw(ca, ADMIN).nonce(strangers, csr)),
        proof_of(key, old, csr, "made-up"),
        pb.RenewalProof(nonce=nonce),
        pb.RenewalProof(nonce=nonce, signature=b"\x30\x06\x02\x01\x00\x02\x01\x00"),
        pb.RenewalProof(),
    ):
        assert raw.refusal(old, csr, proof).reason == "RENEWAL_PROOF_INVALID"
    assert raw.renew(old, csr, proof_of(key, old, csr, nonce)).certificate.renews == f"certificates/{old}"


def test_a_repeat_is_answered_without_a_proof_and_with_a_fresh_one(ca: RunningCa):
    key, raw, request_id = make_key(), Raw(ca), new_request_id()
    old, csr = issued(ca, key).serial, make_csr(make_key())
    first = raw.renew(old, csr, proof_of(key, old, csr, raw.nonce(old, csr)), request_id)
    fresh = proof_of(key, old, csr, raw.nonce(issued(ca, key).serial, csr))
    for proof in (None, fresh):
        assert raw.renew(old, csr, proof, request_id).certificate == first.certificate
    told = refused(
        lambda: ca.client(OPERATOR).certificates.renew(old, make_csr(make_key()), old_key=key, request_id=request_id)
    )
    assert told.reason == "REQUEST_ID_REUSED"


def test_after_a_new_key_an_estate_certificate_is_not_renewed_again(ca: RunningCa):
    key, new = make_key(), make_key()
    old, certificates = issued(ca, key).serial, ca.client(OPERATOR).certificates
    signed = certificates.renew(old, make_csr(new), old_key=key)
    assert refused(lambda: certificates.renew(old, make_csr(key), old_key=key)).reason == "RENEWAL_SUPERSEDED"
    assert certificates.renew(old, make_csr(new), old_key=key).serial == signed.serial
    # The line goes on with the newest certificate and the newest key.
    assert (
        refused(lambda: certificates.renew(signed.serial, make_csr(key), old_key=key)).reason == "RENEWAL_PROOF_INVALID"
    )
    assert certificates.renew(signed.serial, make_csr(make_key()), old_key=new).serial


# --- What stays ---------------------------------------------------------------------------------------------------------


def test_names_their_order_identity_cn_and_lifetime_stay_however_little_the_request_says(ca: RunningCa):
    key = make_key()
    names = [Name.dns("b.example.test"), Name.dns("a.example.test"), Name.ip("192.0.2.1")]
    csr = make_csr(key, names, common_name="a.example.test")
    certificates = ca.client(OPERATOR).certificates
    first = certificates.sign("server", csr, lifetime=timedelta(days=5))
    requests = ([], [names[2], names[1]], names[::-1])
    for csr_names in requests:
        new_key = make_key()
        signed = certificates.renew(first.serial, make_csr(new_key, csr_names), old_key=key)
        old, new = parsed(first), parsed(signed)
        san = x509.SubjectAlternativeName
        assert new.extensions.get_extension_for_class(san) == old.extensions.get_extension_for_class(san)
        assert certificates.get(signed.serial).identity == "b.example.test"
        assert [a.value for a in new.subject.get_attributes_for_oid(NameOID.COMMON_NAME)] == ["a.example.test"]
        life = timedelta(days=5)
        assert signed.not_after - signed.not_before + timedelta(seconds=1) == life, "renewals of renewals included"
        first, key = signed, new_key


def test_a_renewal_follows_the_newest_version_of_its_profile(ca: RunningCa):
    profile, key = ca.new_profile(), make_key()
    certificates = ca.client(OPERATOR).certificates
    old = certificates.sign(profile, server_csr("web.example.test", key=key))
    ca.client().profiles.update(profile, document(lifetime={"default": "7d", "maximum": "60d"}))
    signed = certificates.renew(old.serial, make_csr(make_key()), old_key=key)
    assert certificates.get(signed.serial).profile_version == 2
    assert signed.not_after - signed.not_before == timedelta(days=7, seconds=-1)


def test_who_is_no_longer_among_the_requesters_cannot_renew(ca: RunningCa):
    profile, key = ca.new_profile(), make_key()
    certificates = ca.client(OPERATOR).certificates
    old = certificates.sign(profile, server_csr("web.example.test", key=key))
    ca.client().profiles.update(profile, document(requesters=["operators/admin"]))
    told = refused(lambda: certificates.renew(old.serial, make_csr(make_key()), old_key=key))
    assert told.reason == "PROFILE_NOT_ALLOWED"


# --- Time ---------------------------------------------------------------------------------------------------------------


def test_an_expired_certificate_and_an_old_nonce_renew_nothing(own_ca: RunningCa):
    key, raw = make_key(), Raw(own_ca)
    certificates = own_ca.client(OPERATOR).certificates
    csr = make_csr(make_key())
    short = certificates.sign("server", server_csr("a.test", key=key), lifetime=timedelta(seconds=600)).serial
    renewed = certificates.sign("server", server_csr("b.test", key=key), lifetime=timedelta(seconds=600)).serial
    long = certificates.sign("server", server_csr("c.test", key=key)).serial
    nonces = {serial: raw.nonce(serial, csr) for serial in (short, renewed, long)}
    request_id = new_request_id()
    successor = raw.renew(renewed, csr, proof_of(key, renewed, csr, nonces[renewed]), request_id)
    own_ca.clock.offset = 290
    assert raw.renew(renewed, csr, proof_of(key, renewed, csr, nonces[renewed])).certificate == successor.certificate
    own_ca.clock.offset = 305
    told = raw.refusal(long, csr, proof_of(key, long, csr, nonces[long]))
    assert told.reason == "RENEWAL_PROOF_INVALID"
    assert "older than 300 seconds" in told.message
    told = refused(lambda: certificates.renew(short, csr, old_key=key))
    assert told.reason == "CERTIFICATE_EXPIRED"
    # What was renewed in time is answered as it was: by the new key, and by the request's id whatever has expired.
    assert certificates.renew(renewed, csr, old_key=key).serial == successor.certificate.name.partition("/")[2]
    assert raw.renew(renewed, csr, None, request_id).certificate.name == successor.certificate.name


def test_an_expired_control_certificate_is_refused_before_anything_else(own_ca: RunningCa):
    client = own_ca.new_client(OPERATOR)
    client.certificates.renew(held(client), make_csr(load_key(client.context.key)))
    own_ca.clock.offset = 12 * 3600 + 1
    told = refused(lambda: client.certificates.renew(held(client), make_csr(make_key())))
    assert told.reason == "PEER_CERTIFICATE_EXPIRED"


# --- Requests that are none ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("serial", ["", "xyz", "4" + "0" * 30, "4" + "A" * 31, "../" + "0" * 32])
def test_what_is_no_serial_number_is_refused(ca: RunningCa, serial: str):
    assert Raw(ca).refusal(serial, b"").reason == "FIELD_INVALID"


def test_what_is_no_request_is_refused_before_a_proof_is_asked_for(ca: RunningCa):
    old = issued(ca, make_key())
    assert Raw(ca).refusal(old.serial, b"no request").reason == "CSR_MALFORMED"
    csr = bytearray(make_csr(make_key()))
    csr[-1] ^= 1
    assert Raw(ca).refusal(old.serial, bytes(csr)).reason == "CSR_SIGNATURE_INVALID"
