"""Chains verified by the `openssl` program in strict mode and by gRPC's BoringSSL in both directions."""

import functools
import subprocess
import time
from concurrent import futures
from dataclasses import replace

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from keyreeve.values import Hierarchy, Name, NameType
from keyreeve_ca.authorities.ca_certificate import issue_authority
from keyreeve_ca.authorities.ca_certificate_plan import AUTHORITY_KEY_TYPES, standard_issuing, standard_root
from keyreeve_ca.certificates.final_check import FinalCheck, check_signed
from keyreeve_ca.certificates.plan import Issuer
from keyreeve_ca.certificates.serials import serial
from keyreeve_ca.certificates.signers import IssuingSigner
from keyreeve_ca.certificates.template import Template
from keyreeve_chassis.keys.key_types import KeyType
from support.certificate_plans import (
    IDENTITY,
    PERMISSIVE,
    SEED,
    SERVICE,
    STORE,
    TRUST_DOMAIN,
    URL,
    Authority,
    authority,
    dns,
    plan_for,
    private_key,
    uri,
)
from support.programs import needs

SERVICE_NAMES = (*dns("ca.svc.example.test"), *uri("spiffe://example.test/services/ca/1"))


def pem(der):
    return x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM)


def leaf(plan, issuing, number=0):
    template = Template(plan.profile, issuing.issuer)
    serial_number = serial(77, SEED, number)
    tbs = template.tbs(plan, serial_number, 1)
    FinalCheck(plan.profile, issuing.issuer, TRUST_DOMAIN).check_tbs(tbs, plan, serial_number, 1)
    der = template.certificate(tbs, issuing.signer.sign(tbs))
    check_signed(der, tbs)
    return der


@needs("openssl")
@pytest.mark.parametrize("signer", sorted(AUTHORITY_KEY_TYPES))
@pytest.mark.parametrize("key_type", KeyType)
def test_openssl_verifies_chains_strictly(tmp_path, signer, key_type):
    issuing = authority(Hierarchy.ESTATE, signer)
    names = (
        *dns("web.example.test", "*.web.example.test"),
        *uri("spiffe://other.test/a"),
        Name(NameType.IP, "10.1.2.3"),
        Name(NameType.IP, "2001:db8::1"),
        Name(NameType.EMAIL, "a@example.test"),
    )
    for common_name in (None, "web.example.test"):
        plan = plan_for(PERMISSIVE, key_type=key_type, names=names, common_name=common_name)
        (tmp_path / "leaf.pem").write_bytes(pem(leaf(plan, issuing)))
        (tmp_path / "issuing.pem").write_bytes(pem(issuing.issuer.certificate_der))
        (tmp_path / "root.pem").write_bytes(pem(issuing.root_der))
        # OpenSSL calls a certificate expired within its last second, which RFC 5280 still counts as valid.
        for moment, good in ((plan.not_before, True), (plan.not_after - 1, True), (plan.not_after + 1, False)):
            command = [
                "openssl", "verify", "-x509_strict", "-attime", str(moment), "-purpose", "sslserver",
                "-verify_hostname", "a.web.example.test", "-CAfile", "root.pem", "-untrusted", "issuing.pem", "leaf.pem",
            ]  # fmt: skip
            result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False)
            assert (result.returncode == 0) is good, result.stderr


@needs("openssl")
@pytest.mark.parametrize("name", ["ca.svc.example.test", "x.probe.example.test", "svc.example.test"])
def test_openssl_refuses_a_reserved_name_under_the_estate(tmp_path, name):
    issuing = authority(Hierarchy.ESTATE)
    plan = plan_for(replace(PERMISSIVE, may_use_reserved_names=True), names=dns(name))
    template = Template(plan.profile, issuing.issuer)
    tbs = template.tbs(plan, serial(77, SEED, 0), 1)  # the final check would refuse it first
    (tmp_path / "leaf.pem").write_bytes(pem(template.certificate(tbs, issuing.signer.sign(tbs))))
    (tmp_path / "issuing.pem").write_bytes(pem(issuing.issuer.certificate_der))
    (tmp_path / "root.pem").write_bytes(pem(issuing.root_der))
    command = [
        "openssl", "verify", "-attime", str(plan.not_before), "-CAfile", "root.pem", "-untrusted", "issuing.pem", "leaf.pem",
    ]  # fmt: skip
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False)
    assert "excluded subtree violation" in result.stderr


@functools.cache
def control_hierarchy_of_today(key_type):
    """BoringSSL knows only the real time."""
    now = int(time.time())
    root_key, issuing_key = (STORE.open(STORE.generate(key_type)) for _ in range(2))
    plan = standard_root(Hierarchy.CONTROL, TRUST_DOMAIN, "control-root", key_type, now)
    root_der = issue_authority(
        plan, root_key.spki, serial(1, SEED, 0), IssuingSigner(root_key), issuer=None, crl_shard=0
    )
    root = Issuer("control-root", Hierarchy.CONTROL, root_der, key_type, plan.not_before, plan.not_after, URL)
    plan = standard_issuing(Hierarchy.CONTROL, TRUST_DOMAIN, "control-issuing", key_type, now)
    der = issue_authority(plan, issuing_key.spki, serial(2, SEED, 0), IssuingSigner(root_key), issuer=root, crl_shard=0)
    issuer = Issuer("control-issuing", Hierarchy.CONTROL, der, key_type, plan.not_before, plan.not_after, URL)
    return Authority(issuer, issuing_key, root_der), now


@pytest.mark.parametrize("signer", [KeyType.P256, KeyType.P384, KeyType.RSA3072, KeyType.ED25519])
@pytest.mark.parametrize("key_type", [KeyType.P256, KeyType.P384, KeyType.RSA2048])
def test_grpc_accepts_both_sides_of_a_handshake_within_the_control_hierarchy(signer, key_type):
    issuing, now = control_hierarchy_of_today(signer)
    root = pem(issuing.root_der)
    pairs = []
    for number, (profile, names) in enumerate(
        ((SERVICE, SERVICE_NAMES), (IDENTITY, uri("spiffe://example.test/members/a")))
    ):
        plan = plan_for(profile, key_type=key_type, names=names, not_before=now - 300, seconds=3600)
        chain = pem(leaf(plan, issuing, number)) + pem(issuing.issuer.certificate_der)
        key = private_key(key_type).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        pairs.append((key, chain))
    server = grpc.server(futures.ThreadPoolExecutor(1))
    identity = grpc.unary_unary_rpc_method_handler(lambda _, context: context.auth_context()["peer_spiffe_id"][0])
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("t.T", {"M": identity}),))
    port = server.add_secure_port(
        "127.0.0.1:0", grpc.ssl_server_credentials([pairs[0]], root_certificates=root, require_client_auth=True)
    )
    server.start()
    try:
        with grpc.secure_channel(
            f"127.0.0.1:{port}",
            grpc.ssl_channel_credentials(root, *pairs[1]),
            options=[("grpc.ssl_target_name_override", "ca.svc.example.test")],
        ) as channel:
            answer = channel.unary_unary("/t.T/M")(b"", timeout=10, wait_for_ready=False)
    finally:
        server.stop(None).wait()
    assert answer == b"spiffe://example.test/members/a"
