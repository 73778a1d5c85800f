"""Renewal of the control certificate after its end: for a server that was off longer than the certificate lives."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import grpc
import grpc.aio
import structlog
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from keyreeve.ca.v1 import certificate_service_pb2 as certificate_pb
from keyreeve.ca.v1 import enrollment_service_pb2 as pb
from keyreeve.channel_credentials import pinned_options
from keyreeve.context import Context
from keyreeve.enrollment_token import SERVER
from keyreeve.errors import FileUnusable, KeyreeveError, RenewalProofRequired, ServiceUnreachable
from keyreeve.files import write_atomically
from keyreeve.identity import service_dns_name
from keyreeve.keys import load_certificates, load_key, make_csr, make_key, save_key, sign_renewal
from keyreeve.renewal_files import complete_renewal, lock_pair, next_path
from keyreeve.status import error_from_rpc
from keyreeve.values import to_pem

METHOD = "/keyreeve.ca.v1.EnrollmentService/RenewExpired"
LOOK_SECONDS = 30.0
TIMEOUT = 10.0

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class ExpiredCertificate:
    """The files of a control certificate, and the enrollment listener that renews it."""

    context: Context
    address: str
    """host:port of the enrollment listener."""
    now: Callable[[], float] = time.time

    async def watch(self) -> None:
        """Renew whenever it has expired, forever."""
        while True:
            try:
                if self.is_expired():
                    await self.renew()
                    _log.info("renewed the expired control certificate")
            except KeyreeveError as failure:
                _log.warning("the expired control certificate could not be renewed", error=str(failure))
            await asyncio.sleep(LOOK_SECONDS)

    def is_expired(self) -> bool:
        """Whether the certificate has ended. Raises `FileUnusable`."""
        return self.now() > self._leaf().not_valid_after_utc.timestamp()

    async def renew(self) -> None:
        """Renew it for a new key. Raises `keyreeve.errors`; after a lost answer the same key gets the same certificate."""
        certificate, key_path = self.context.certificate, self.context.key
        with lock_pair(key_path) as locked:
            if not locked:
                return
            leaf, new = self._leaf(), next_path(key_path)
            if not new.exists():
                save_key(new, make_key())
            new_key = load_key(new)
            serial = leaf.serial_number.to_bytes(16, "big")
            spki = new_key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
            request = pb.RenewExpiredRequest(name=f"certificates/{serial.hex()}", csr=make_csr(new_key))
            try:
                await self._call(request)
                raise ServiceUnreachable("the enrollment listener asks for no proof")
            except RenewalProofRequired as asked:
                nonce = asked.metadata.get("nonce", "")
            signature = sign_renewal(
                load_key(key_path), trust_domain=self.context.trust_domain, serial=serial, new_spki=spki, nonce=nonce
            )
            request.proof.CopyFrom(certificate_pb.RenewalProof(nonce=nonce, signature=signature))
            chain = list((await self._call(request)).chain_der)
            self._check(chain, spki, leaf)
            write_atomically(next_path(certificate), to_pem(chain).encode())
            complete_renewal(certificate, key_path)

    def _check(self, chain: list[bytes], spki: bytes, old: x509.Certificate) -> None:
        try:
            leaf = x509.load_der_x509_certificate(chain[0])
            names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            wanted = old.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except (IndexError, ValueError, x509.ExtensionNotFound):
            raise ServiceUnreachable("the enrollment listener answers without a certificate") from None
        found = leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        if found != spki or names != wanted:
            raise ServiceUnreachable("the enrollment listener answers with another certificate")

    async def _call(self, request: pb.RenewExpiredRequest) -> pb.RenewExpiredResponse:
        server = service_dns_name(SERVER, self.context.trust_domain)
        credentials = grpc.ssl_channel_credentials(_read(self.context.bundle))
        options = pinned_options(self.address, server)
        try:
            async with grpc.aio.secure_channel(self.address, credentials, options) as channel:
                call = channel.unary_unary(
                    METHOD,
                    request_serializer=pb.RenewExpiredRequest.SerializeToString,
                    response_deserializer=pb.RenewExpiredResponse.FromString,
                )
                response: pb.RenewExpiredResponse = await call(request, timeout=TIMEOUT)
        except grpc.RpcError as failure:
            raise error_from_rpc(failure, f"the enrollment listener at {self.address}") from None
        return response

    def _leaf(self) -> x509.Certificate:
        try:
            return x509.load_der_x509_certificate(load_certificates(self.context.certificate)[0])
        except (OSError, ValueError) as failure:
            raise FileUnusable(f"cannot read {self.context.certificate}: {failure}") from None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as failure:
        raise FileUnusable(f"cannot read {path}: {failure}") from None
