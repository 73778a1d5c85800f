"""Renewal: a new certificate for the same names, bound to the old one's holder and key lineage (docs/protocols.md).

A certificate of the control hierarchy is renewed over mutual TLS with itself; an operator's, after the last invitation, with
a signature of a registered hardware key in addition. Any other certificate is renewed by its original requester, with a
signature of the old key over a fresh nonce. The nonce is stateless: its time and a MAC over caller and serial number.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from keyreeve import errors
from keyreeve.identity import OPERATOR_ROLES, Caller, Role, SpiffeId
from keyreeve.length_prefix import length_prefixed
from keyreeve.values import Hierarchy, Name, NameType
from keyreeve_ca.enrollment.rules import profile_of
from keyreeve_ca.issuance.policy import check_requester, plan_certificate
from keyreeve_ca.issuance.service import Issuance, LedgerEntry, Outcome, Prepared, SignItem, SignRequest
from keyreeve_ca.issuance.snapshot import IssuanceSnapshot
from keyreeve_ca.ledger.ports import AuditRecord, Rpc
from keyreeve_ca.operators.service import first_second, refuse_uninvited_renewal
from keyreeve_ca.requests.csr import COMMON_NAME, CertificateRequest, attribute_name, check_possession, read_csr
from keyreeve_ca.requests.device_signature import verify_touch
from keyreeve_ca.store.ports import Store, StoredCertificate
from keyreeve_chassis.trust_tables.ports import Alteration, Problem, table_altered

TOUCH_NAMESPACE = "keyreeve-renew-1"
"""For which a device signs a renewal: `ssh-keygen -Y sign -n`."""
NONCE_LIFETIME = 300
"""Seconds for which a nonce is good."""


@dataclass(frozen=True, slots=True)
class Proof:
    """A signature of the old key over the new one."""

    nonce: str
    signature: bytes


def proof_message(trust_domain: str, serial: bytes, new_spki: bytes, nonce: str) -> bytes:
    """Return the message that the old key signs."""
    spki_sha256 = hashlib.sha256(new_spki).digest()
    return length_prefixed(b"keyreeve-renew-1", trust_domain.encode(), serial, spki_sha256, nonce.encode())


@dataclass(frozen=True)
class Nonces:
    """Makes and checks nonces without storing them; `key` is the same in every process."""

    key: bytes
    now: Callable[[], int]

    def make(self, caller: str, serial: bytes) -> str:
        """Make a nonce for this caller and certificate, valid for `NONCE_LIFETIME` seconds."""
        time = self.now().to_bytes(8, "big")
        return base64.urlsafe_b64encode(time + self._mac(time, caller, serial)).decode()

    def check(self, nonce: str, caller: str, serial: bytes) -> None:
        """Raise `RenewalProofInvalid` unless the nonce was made for this caller and certificate and has not expired."""
        try:
            raw = base64.b64decode(nonce, altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raw = b""
        time, mac = raw[:8], raw[8:]
        if not hmac.compare_digest(mac, self._mac(time, caller, serial)):
            raise errors.RenewalProofInvalid("the nonce was not made by this service for this caller and certificate")
        # Only replicas make nonces, so one from the future tells that two of their clocks differ, and no more.
        if abs(self.now() - int.from_bytes(time, "big")) > NONCE_LIFETIME:
            raise errors.RenewalProofInvalid(f"the nonce is older than {NONCE_LIFETIME} seconds; ask for a new one")

    def _mac(self, time: bytes, caller: str, serial: bytes) -> bytes:
        return hmac.digest(
            self.key, length_prefixed(b"keyreeve-renew-nonce-1", time, caller.encode(), serial), "sha256"
        )


@dataclass(frozen=True)
class Renewal:
    """The use case of RenewCertificate."""

    issuance: Issuance
    store: Store
    nonces: Nonces
    now: Callable[[], int]

    async def renew(
        self,
        *,
        caller: Caller,
        method: str,
        request_id: str,
        payload_sha256: bytes,
        serial: bytes,
        csr: bytes,
        proof: Proof | None,
        record: AuditRecord | None = None,
    ) -> LedgerEntry:
        """Renew the certificate `serial` for the key in `csr`. Raises the reasons in the RPC's comment."""
        answered = await self.store.read(lambda tx: tx.answered(caller.claimant, method, request_id))
        if answered is not None:
            return signed_certificate(await self.issuance.recall(answered, payload_sha256, request_id))
        old, successor, revoked, ended = await self.store.read(
            lambda tx: (
                tx.certificate(serial),
                tx.successor(serial),
                tx.revocations.of([serial]),
                tx.revocations.ended_line(serial),
            )
        )
        snapshot = self.issuance.snapshot()
        hierarchy = snapshot.authority(old.authority_id).hierarchy
        _check_holder(caller, old, hierarchy, first_second(caller, snapshot.operators.get(str(caller))))
        if serial in revoked:
            raise errors.CertificateRevoked(
                f"the certificate has been revoked ({revoked[serial].reason})", metadata={"serial": serial.hex()}
            )
        if ended:
            raise errors.CertificateRevoked(
                "a certificate that this one renewed, directly or not, has been revoked",
                metadata={"serial": serial.hex()},
            )
        request = read_csr(csr)
        check_possession(request)
        if hierarchy is not Hierarchy.CONTROL:
            self._check_proof(caller, old, request.spki, proof, snapshot.trust_domain)
        if successor is not None:
            if successor.spki_sha256 == request.spki_sha256:
                return successor  # the reply was lost, perhaps with the caller's memory of its request_id
            raise renewal_superseded(old)
        if self.now() > old.not_after:
            raise errors.CertificateExpired("the certificate has expired; ask for a new one")
        if caller.role in OPERATOR_ROLES and hierarchy is Hierarchy.CONTROL:
            self._check_invited(caller, old, request.spki, proof, snapshot)
        item = SignItem(
            profile=old.profile_name,
            csr=csr,
            lifetime=None
            if old.requested_lifetime_seconds is None
            else timedelta(seconds=old.requested_lifetime_seconds),
            # Within a hierarchy the newest active authority signs; one that stands alone must be named.
            authority=old.authority_id if hierarchy is Hierarchy.STANDALONE else None,
        )
        outcomes = await self.issuance.sign(
            SignRequest(
                caller=caller,
                origin=Rpc(method),
                request_id=request_id,
                payload_sha256=payload_sha256,
                items=(item,),
                record=record,
                prepare=successor_of(old, None if hierarchy is Hierarchy.CONTROL else caller.role),
            )
        )
        return signed_certificate(outcomes)

    def _check_invited(
        self, caller: Caller, old: StoredCertificate, spki: bytes, proof: Proof | None, snapshot: IssuanceSnapshot
    ) -> None:
        """Raise when an operator's invitation has ended and no device touch replaces it."""
        person = snapshot.operators.get(str(caller))
        if person is not None and proof is not None and self.now() > person.renews_until:
            self.nonces.check(proof.nonce, str(caller), old.serial)
            message = proof_message(snapshot.trust_domain, old.serial, spki, proof.nonce)
            try:
                verify_touch(proof.signature, message, TOUCH_NAMESPACE, [each.key for each in person.keys])
            except InvalidSignature:
                raise errors.RenewalProofInvalid(
                    "no key in a device that is in your record signed this renewal by a touch"
                ) from None
            return
        refuse_uninvited_renewal(person, self.now(), lambda: self.nonces.make(str(caller), old.serial))

    def _check_proof(
        self, caller: Caller, old: StoredCertificate, spki: bytes, proof: Proof | None, trust_domain: str
    ) -> None:
        if proof is None:
            nonce = self.nonces.make(str(caller), old.serial)
            raise errors.RenewalProofRequired(
                "sign the nonce with the old key and repeat the call", metadata={"nonce": nonce}
            )
        self.nonces.check(proof.nonce, str(caller), old.serial)
        message = proof_message(trust_domain, old.serial, spki, proof.nonce)
        try:
            verify_proof(old.der, proof.signature, message)
        except InvalidSignature:
            raise errors.RenewalProofInvalid("the signature was not made by the old key over this renewal") from None


def _refuse_unless_ours(old: StoredCertificate, snapshot: IssuanceSnapshot) -> None:
    """Raise unless the row of the ledger holds what its authority signed: another party may have written it."""
    authority = snapshot.authority(old.authority_id)
    issuer = x509.load_der_x509_certificate(authority.certificate_der)
    try:
        certificate = x509.load_der_x509_certificate(old.der)
        certificate.verify_directly_issued_by(issuer)
        whole = certificate.serial_number == int.from_bytes(old.serial, "big")
        names = [str(name.value) for name in names_of_certificate(certificate)]
        if authority.hierarchy is Hierarchy.CONTROL:
            role = SpiffeId.parse(old.identity).role
            whole = whole and old.identity in names and role is not None and old.profile_name == profile_of(role)
    except (ValueError, TypeError, InvalidSignature):
        whole = False
    if not whole:
        raise table_altered([Alteration("certificates", old.serial.hex(), Problem.CHANGED)])


def certificate_not_found(serial: bytes) -> errors.KeyreeveError:
    """The refusal for a certificate that does not exist or that the caller may not see."""
    return errors.CertificateNotFound(
        f"there is no certificate {serial.hex()} that you may see", metadata={"serial": serial.hex()}
    )


def renewal_superseded(old: StoredCertificate) -> errors.KeyreeveError:
    """The refusal of another key for a certificate that has been renewed."""
    return errors.RenewalSuperseded(
        "the certificate has been renewed for another key", metadata={"serial": old.serial.hex()}
    )


def signed_certificate(outcomes: Sequence[Outcome]) -> LedgerEntry:
    """Return the certificate of a request with one item."""
    [outcome] = outcomes
    if isinstance(outcome, errors.KeyreeveError):
        raise outcome
    return outcome


def _check_holder(caller: Caller, old: StoredCertificate, hierarchy: Hierarchy, since: int) -> None:
    """Raise unless the caller may renew: the holder (control) or the original requester (others).

    `since` is the first second of the caller's present registration.
    """
    if hierarchy is Hierarchy.CONTROL:
        if caller.serial != int.from_bytes(old.serial, "big"):
            raise errors.RenewalNotAllowed(
                "a certificate of the control hierarchy is renewed over a connection that presents it"
            )
    elif str(caller) != old.caller or old.issued_at < since:
        # Do not reveal whether it exists: the same answer as for an unknown serial number.
        raise certificate_not_found(old.serial)


def as_renewal(csr: CertificateRequest, old_der: bytes) -> CertificateRequest:
    """Return the request with the old certificate's names and subject.

    Raises `NameRefused` when it asks for another name, `SubjectRefused` for another CN than the old one or one of the DNS
    names.
    """
    if csr.unusable_names:
        raise errors.NameRefused(
            "a renewal has the old certificate's names and no others",
            violations=[
                errors.Violation(f"csr.subject_alternative_name[{at}]", problem) for at, problem in csr.unusable_names
            ],
        )
    old = x509.load_der_x509_certificate(old_der)
    names = names_of_certificate(old)
    foreign = [n for n in csr.names if n not in names]
    if foreign:
        raise errors.NameRefused(
            "a renewal has the old certificate's names and no others",
            violations=[errors.Violation("csr.subject_alternative_name", f"{n} is not among them") for n in foreign],
        )
    subject = tuple((attribute.oid.dotted_string, str(attribute.value)) for attribute in old.subject)
    own = [text for oid, text in csr.subject if oid == COMMON_NAME]
    for text in own:
        if (COMMON_NAME, text) not in subject and Name(NameType.DNS, text) not in names:
            raise errors.SubjectRefused("a renewal has the old certificate's CN or one of its DNS names as CN")
    if own:
        subject = (*(each for each in subject if each[0] != COMMON_NAME), (COMMON_NAME, own[0]))
    beyond = tuple(f"csr.subject: {attribute_name(oid)}" for oid, text in csr.subject if (oid, text) not in subject)
    return replace(csr, names=names, subject=subject, left_out=csr.left_out + beyond)


def successor_of(old: StoredCertificate, role: Role | None) -> Callable[[SignItem, IssuanceSnapshot, int], Prepared]:
    """Plan the renewal of `old`.

    `role` must still be allowed by the profile; None where the holder renews.
    """

    def prepare(item: SignItem, snapshot: IssuanceSnapshot, now: int) -> Prepared:
        _refuse_unless_ours(old, snapshot)
        csr = as_renewal(read_csr(item.csr), old.der)
        version = snapshot.profile(item.profile)
        if role is not None:
            check_requester(version, role)
        issuing, plan = snapshot.plan_with_issuer(
            version,
            item.authority,
            lambda issuer: plan_certificate(
                version,
                csr,
                extra_names=(),
                lifetime=item.lifetime,
                now=now,
                issuer=issuer,
                trust_domain=snapshot.trust_domain,
                known=snapshot.known_keys,
            ),
        )
        return Prepared(plan, csr, issuing, item, renews=old.serial)

    return prepare


def names_of_certificate(certificate: x509.Certificate) -> tuple[Name, ...]:
    """Return the names of one of our parsed certificates, in order."""
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    types: dict[type[x509.GeneralName], NameType] = {
        x509.DNSName: NameType.DNS,
        x509.IPAddress: NameType.IP,
        x509.UniformResourceIdentifier: NameType.URI,
        x509.RFC822Name: NameType.EMAIL,
    }
    return tuple(Name(types[type(n)], str(n.value)) for n in names)


def verify_proof(certificate_der: bytes, signature: bytes, message: bytes) -> None:
    """Raise `InvalidSignature` unless the key of a certificate made the signature."""
    key = x509.load_der_x509_certificate(certificate_der).public_key()
    match key:
        case ec.EllipticCurvePublicKey():
            digest = hashes.SHA384() if isinstance(key.curve, ec.SECP384R1) else hashes.SHA256()
            key.verify(signature, message, ec.ECDSA(digest))
        case rsa.RSAPublicKey():
            key.verify(signature, message, padding.PKCS1v15(), hashes.SHA256())
        case ed25519.Ed25519PublicKey():
            key.verify(signature, message)
        case _:
            raise InvalidSignature
