"""A CA of a few lines on the same stack: gRPC, mutual TLS, the same reading, building and signing, and no promises.

`python -m bare_ca` is one of its processes; the row `guarantees` of `make bench` starts them. What is ordered is added:
`policy`, `final check`, `parse-back`. Its authority is made at its start and forgotten with it.
"""

import os
import time
from typing import Any

import grpc

from keyreeve.ca.v1 import certificate_service_pb2 as pb
from keyreeve_bench import children
from keyreeve_bench.children import Document, Parent
from keyreeve_bench.echo import serve_methods
from keyreeve_bench.messages import BATCH, UNARY
from keyreeve_ca.building.authority import issue_authority
from keyreeve_ca.building.authority_plan import standard_root
from keyreeve_ca.building.final_check import FinalCheck, check_signed
from keyreeve_ca.building.template import Template
from keyreeve_ca.rules.builtin import builtin_profiles
from keyreeve_ca.rules.csr import CertificateRequest, check_possession, read_csr
from keyreeve_ca.rules.keys import KnownKeys
from keyreeve_ca.rules.plan import CertificatePlan, Issuer
from keyreeve_ca.rules.policy import plan_certificate
from keyreeve_ca.rules.profile import KeyType, ProfileVersion, Tree
from keyreeve_ca.rules.serials import serial
from keyreeve_ca.sealed_keys import SealedKeyStore

POLICY = "policy"
FINAL_CHECK = "final check"
PARSE_BACK = "parse-back"
_TRUST_DOMAIN = "bare.localhost"
_SEED = b"b" * 32
_LIFETIME = 30 * 86_400


class Bare:
    """Signs what it is asked to, once the request's own signature has been verified."""

    def __init__(self, added: list[str], now: int) -> None:
        keys = SealedKeyStore(os.urandom(32))
        self._signer = keys.open(keys.generate(KeyType.P256))
        plan = standard_root(Tree.ESTATE, _TRUST_DOMAIN, "bare", KeyType.P256, now)
        self.authority_der = issue_authority(
            plan, self._signer.spki, serial(1, _SEED, 0), self._signer, issuer=None, crl_shard=0
        )
        url = "http://bare.localhost"
        self._issuer = Issuer(
            "bare", Tree.ESTATE, self.authority_der, KeyType.P256, plan.not_before, plan.not_after, url
        )
        document, sha256, profile = builtin_profiles(_TRUST_DOMAIN)["server"]
        self._version = ProfileVersion("server", 1, sha256, str(document), profile)
        self._template = Template(self._version, self._issuer)
        self._check = FinalCheck(self._version, self._issuer, _TRUST_DOMAIN)
        self._added = added
        self._count = 0

    def sign(self, csr_der: bytes, now: int) -> tuple[str, bytes]:
        """Serial number and certificate."""
        csr = read_csr(csr_der)
        plan = self._planned(csr, now)
        check_possession(csr)
        self._count += 1
        number = serial(2, _SEED, self._count)
        tbs = self._template.tbs(plan, number, 0)
        if FINAL_CHECK in self._added:
            self._check.check_tbs(tbs, plan, number, 0)
        der = self._template.certificate(tbs, self._signer.sign(tbs))
        if PARSE_BACK in self._added:
            check_signed(der, tbs)
        return f"certificates/{number.hex()}", der

    def _planned(self, csr: CertificateRequest, now: int) -> CertificatePlan:
        if POLICY not in self._added:
            begins = now - 300
            return CertificatePlan(self._version, csr.spki, csr.key_type, None, csr.names, begins, begins + _LIFETIME)
        return plan_certificate(
            self._version, csr, extra_names=(), lifetime=None, now=now, issuer=self._issuer,
            trust_domain=_TRUST_DOMAIN, known=KnownKeys(),
        )  # fmt: skip

    async def one(self, request: pb.SignCertificateRequest, _: object) -> pb.SignCertificateResponse:
        """SignCertificate."""
        name, der = self.sign(request.item.csr, int(time.time()))
        made = pb.Certificate(name=name, authority="authorities/bare", certificate_der=der)
        return pb.SignCertificateResponse(certificate=made, chain_der=[self._issuer.certificate_der])

    async def many(self, request: pb.SignCertificatesRequest, _: object) -> pb.SignCertificatesResponse:
        """SignCertificates."""
        now, outcomes = int(time.time()), []
        for item in request.items:
            name, der = self.sign(item.csr, now)
            signed = pb.SignedCertificate(name=name, certificate_der=der, authority="authorities/bare")
            outcomes.append(pb.SignCertificateOutcome(signed=signed))
        chain = pb.AuthorityChain(authority="authorities/bare", chain_der=[self._issuer.certificate_der])
        return pb.SignCertificatesResponse(outcomes=outcomes, chains=[chain])


async def serve(orders: dict[str, Any], parent: Parent) -> Document:
    """Serve as ordered until the parent ends this process."""
    bare = Bare(orders["added"], int(time.time()))
    methods = {
        UNARY.split("/")[2]: grpc.unary_unary_rpc_method_handler(
            bare.one, pb.SignCertificateRequest.FromString, pb.SignCertificateResponse.SerializeToString
        ),
        BATCH.split("/")[2]: grpc.unary_unary_rpc_method_handler(
            bare.many, pb.SignCertificatesRequest.FromString, pb.SignCertificatesResponse.SerializeToString
        ),
    }
    await serve_methods(orders, methods, parent)
    return {}


if __name__ == "__main__":
    children.serve_parent(serve)
