"""Every way a call can fail: one class per reason, shared by the services that raise and the clients that catch.

A service raises what happened; the chassis translates it in one place into a `google.rpc.Status` with one
`ErrorInfo(domain="keyreeve", reason, metadata)`; the SDK rebuilds the same class from it. A reason never changes its
meaning (AIP-193). A class's docstring is its *cause*, `fix` is what to do, `who` is the one who can do it:
`keyreeve explain REASON` prints the three.

This module imports nothing outside the standard library, so that pure rules may raise from it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import ClassVar

DOMAIN = "keyreeve"

CALLER = "whoever sends the request"
OPERATOR = "an operator of the control plane"
ADMIN = "an admin of the control plane"
DEVELOPER = "the developers of Keyreeve: please report it with the request id"

_REGISTER: dict[str, type["KeyreeveError"]] = {}


@dataclass(frozen=True, slots=True)
class Violation:
    """One field of a request and what is wrong with it; `field` is its path, such as `items[3].csr`."""

    field: str
    description: str


class KeyreeveError(Exception):
    """Something failed and this release does not know the reason that the service gave."""

    reason: ClassVar[str] = "UNKNOWN"
    code: ClassVar[str] = "UNKNOWN"
    """The gRPC status code's name, such as `INVALID_ARGUMENT`."""
    fix: ClassVar[str] = "Read the message; upgrade the client if the service is newer."
    who: ClassVar[str] = CALLER
    retryable: ClassVar[bool] = False
    """Whether the same request may succeed later without anyone changing anything."""

    def __init__(
        self,
        message: str,
        *,
        violations: Iterable[Violation] = (),
        retry_after: timedelta | None = None,
        metadata: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.violations = tuple(violations)
        self.retry_after = retry_after
        self.metadata = dict(metadata or {})

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "reason" not in cls.__dict__:
            return  # a family such as InvalidArgument: it has a code and no reason of its own
        if cls.reason in _REGISTER:
            raise TypeError(f"reason {cls.reason} is taken by {_REGISTER[cls.reason].__name__}")
        _REGISTER[cls.reason] = cls

    @classmethod
    def cause(cls) -> str:
        """Why this happens: the first paragraph of the class's documentation on one line."""
        return " ".join((cls.__doc__ or "").strip().split("\n\n")[0].split())


def register() -> dict[str, type[KeyreeveError]]:
    """Return every reason of the contract with its class, ordered by reason."""
    return dict(sorted(_REGISTER.items()))


def from_reason(
    reason: str,
    message: str,
    *,
    code: str = "UNKNOWN",
    violations: Iterable[Violation] = (),
    retry_after: timedelta | None = None,
    metadata: dict[str, str] | None = None,
) -> KeyreeveError:
    """Rebuild the error that a service raised.

    A reason that this release does not know becomes the family of the gRPC status `code`, with the reason in the
    metadata.
    """
    known = _REGISTER.get(reason)
    metadata = metadata or {}
    if known is None:
        return family(code)(
            message, violations=violations, retry_after=retry_after, metadata={**metadata, "reason": reason}
        )
    return known(message, violations=violations, retry_after=retry_after, metadata=metadata)


class InvalidArgument(KeyreeveError):
    """The request is wrong whatever the state of the service."""

    code = "INVALID_ARGUMENT"


class FailedPrecondition(KeyreeveError):
    """The request cannot be done in the present state; something else has to change first."""

    code = "FAILED_PRECONDITION"


class NotFound(KeyreeveError):
    """The thing does not exist, or the caller may not know that it does."""

    code = "NOT_FOUND"


class AlreadyExists(KeyreeveError):
    """A thing of this name exists."""

    code = "ALREADY_EXISTS"


class Unauthenticated(KeyreeveError):
    """The caller did not prove an identity that this control plane knows."""

    code = "UNAUTHENTICATED"


class PermissionDenied(KeyreeveError):
    """The caller is known and may not do this."""

    code = "PERMISSION_DENIED"


class ResourceExhausted(KeyreeveError):
    """A limit is reached."""

    code = "RESOURCE_EXHAUSTED"
    retryable = True


class Unavailable(KeyreeveError):
    """The service cannot answer now."""

    code = "UNAVAILABLE"
    retryable = True


_FAMILIES: dict[str, type[KeyreeveError]] = {
    family.code: family
    for family in (
        InvalidArgument,
        FailedPrecondition,
        NotFound,
        AlreadyExists,
        Unauthenticated,
        PermissionDenied,
        ResourceExhausted,
        Unavailable,
    )
}


def family(code: str) -> type[KeyreeveError]:
    """The class that all reasons of a gRPC status code share; `KeyreeveError` when they have none in common."""
    return _FAMILIES.get(code, KeyreeveError)


# --- Who calls ------------------------------------------------------------------------------------------------------


class PeerCertificateMissing(Unauthenticated):
    """The connection carries no client certificate."""

    reason = "PEER_CERTIFICATE_MISSING"
    fix = "Connect with the certificate and key of a context: `keyreeve status` shows which one is in use."


class PeerCertificateExpired(Unauthenticated):
    """The client certificate's notAfter has passed; an open connection or a resumed TLS session does not help."""

    reason = "PEER_CERTIFICATE_EXPIRED"
    fix = (
        "Operators: have another admin invite you (`keyreeve operator invite NAME --role ROLE`) and accept into a new directory "
        "(`keyreeve operator accept --dir DIRECTORY`); on the machine that runs the CA, `keyreeve up` issues a new one. "
        "Others enroll again with a new token."
    )


class PeerCertificateNotYetValid(Unauthenticated):
    """The client certificate's notBefore lies in the future: one of the two clocks is wrong."""

    reason = "PEER_CERTIFICATE_NOT_YET_VALID"
    fix = "Compare the clocks of both machines; `keyreeve doctor` measures the difference."
    who = OPERATOR


class PeerCertificateRevoked(Unauthenticated):
    """The client certificate has been revoked; open channels and streams of its holder are cut, too."""

    reason = "PEER_CERTIFICATE_REVOKED"
    fix = "Ask an admin why; whoever was revoked by mistake, or has lost a key, needs a new certificate."
    who = ADMIN


class RevocationsStale(Unavailable):
    """The service has not heard of revocations for longer than this call allows, so it cannot know who was put out."""

    reason = "REVOCATIONS_STALE"
    fix = "Repeat the call later; when it lasts, restore the service's connection to the CA service or its database."
    who = OPERATOR


class PeerIdentityInvalid(Unauthenticated):
    """The client certificate does not hold exactly one URI name that is a SPIFFE ID of a known form."""

    reason = "PEER_IDENTITY_INVALID"
    fix = "Use a certificate from the control hierarchy; DNS names and common names are never an identity."


class PeerTrustDomainWrong(Unauthenticated):
    """The client certificate's SPIFFE ID belongs to another trust domain."""

    reason = "PEER_TRUST_DOMAIN_WRONG"
    fix = "Use the context of this control plane: the certificate comes from another one."


class PeerOperatorUnknown(Unauthenticated):
    """The certificate is an operator's, and no record agrees: the person was removed, or has another role now."""

    reason = "PEER_OPERATOR_UNKNOWN"
    fix = "Ask an admin for an invitation (`keyreeve operator invite`); on the CA's machine, run `keyreeve up`."
    who = ADMIN


class PeerIssuerUnknown(Unauthenticated):
    """The client certificate was not issued by an authority of the control hierarchy."""

    reason = "PEER_ISSUER_UNKNOWN"
    fix = "Use a certificate from the control hierarchy: certificates of the estate and of arrays identify nobody here."


class AccessDenied(PermissionDenied):
    """The method's access row does not list the caller's role."""

    reason = "ACCESS_DENIED"
    fix = "Ask someone whose role may call the method; metadata `allowed` lists the roles."
    who = ADMIN


class ProfileNotAllowed(PermissionDenied):
    """The profile does not list the caller's role among those who may ask for it."""

    reason = "PROFILE_NOT_ALLOWED"
    fix = "Use a profile that lists the role under `requesters`, or have an admin add it."
    who = ADMIN


# --- Requests in general --------------------------------------------------------------------------------------------


class MethodUnknown(KeyreeveError):
    """The service has no method of this name; names are exact."""

    reason = "METHOD_UNKNOWN"
    code = "UNIMPLEMENTED"
    fix = "Compare the client's release with the service's."


class HealthServiceUnknown(NotFound):
    """A health check asked for a service that this process does not serve."""

    reason = "HEALTH_SERVICE_UNKNOWN"
    fix = "Ask for the empty name, or for a service that reflection lists."


class FieldInvalid(InvalidArgument):
    """A field is missing or its value is outside what its comment in the contract allows."""

    reason = "FIELD_INVALID"
    fix = "Correct the fields that the violations name."


class RequestIdInvalid(InvalidArgument):
    """`request_id` is missing or is not a UUID in its 36-character lower-case form."""

    reason = "REQUEST_ID_INVALID"
    fix = "Send a UUID (version 7 keeps the ledger fast; the SDK makes them)."


class RequestIdReused(FailedPrecondition):
    """The same caller used this `request_id` for the same method with another payload in the last 24 hours."""

    reason = "REQUEST_ID_REUSED"
    fix = "Use a new `request_id` for a new request; repeat one only to repeat the same request."


class PageTokenInvalid(InvalidArgument):
    """The page token was not made by this service for this caller and these filters."""

    reason = "PAGE_TOKEN_INVALID"
    fix = "Start again without a token; keep filters the same from page to page."


class DeadlineRequired(InvalidArgument):
    """The call carries no deadline, or one further away than the service allows."""

    reason = "DEADLINE_REQUIRED"
    fix = "Set a deadline (`timeout=` in Python, `-max-time` in grpcurl); metadata `max_seconds` is the longest."


class DeadlinePassed(KeyreeveError):
    """The deadline passed before the work was done; nothing is known to have happened."""

    reason = "DEADLINE_PASSED"
    code = "DEADLINE_EXCEEDED"
    fix = "Repeat with the same `request_id`: work that was committed is returned, not repeated."
    retryable = True


class TooManyInFlight(ResourceExhausted):
    """The service has as many calls in hand as it accepts."""

    reason = "TOO_MANY_IN_FLIGHT"
    fix = "Repeat after the time that the answer names; the SDK does."


class TooManyConnections(ResourceExhausted):
    """The peer holds as many connections as one peer may."""

    reason = "TOO_MANY_CONNECTIONS"
    fix = "Keep one channel and share it."


class ServiceStopping(Unavailable):
    """The service is draining before it stops."""

    reason = "SERVICE_STOPPING"
    fix = "Repeat: another process or replica answers. The SDK does."


class StoreUnavailable(Unavailable):
    """The database or the process that writes to it did not answer."""

    reason = "STORE_UNAVAILABLE"
    fix = "Repeat with the same `request_id`; if it lasts, look at the database and at `keyreeve status`."
    who = OPERATOR


class AuditUnavailable(Unavailable):
    """The audit record could not be written, or what must witness the audit does not; nothing is answered without it."""

    reason = "AUDIT_UNAVAILABLE"
    fix = "Look at the disk, the database and the audit's sinks that the message names, then repeat with the same `request_id`."
    who = OPERATOR


class AuditRecordInvalid(InvalidArgument):
    """The record of a verb is not one that the gateway may append."""

    reason = "AUDIT_RECORD_INVALID"
    fix = "Name a verb, and keep every value below 256 characters."
    who = DEVELOPER


class AuditTampered(FailedPrecondition):
    """The audit log is not what was written: something in its tables, or its newest part, was changed or taken away."""

    reason = "AUDIT_TAMPERED"
    fix = "Keep the database, its backups and the witness as they are, and find out who had access to the database."
    who = ADMIN


class AuditCheckpointNotFound(NotFound):
    """There is no checkpoint of this number: none has been signed yet, or the log has lost what somebody witnessed."""

    reason = "AUDIT_CHECKPOINT_NOT_FOUND"
    fix = "Ask for the newest one; if a witness has seen a higher number, run `keyreeve audit verify`."


class InternalError(KeyreeveError):
    """The service met something that its authors did not expect; the details are in its log, never in the answer."""

    reason = "INTERNAL"
    code = "INTERNAL"
    fix = "Look for the request id in the service's log."
    who = DEVELOPER


# --- CSRs, keys and names -------------------------------------------------------------------------------------------


class CsrMalformed(InvalidArgument):
    """The bytes are not one PKCS #10 request in strict DER (RFC 2986), or a PEM file holds more than one object."""

    reason = "CSR_MALFORMED"
    fix = "Make the request with a maintained program, such as `openssl req -new`; send DER or one PEM block."


class CsrTooLarge(InvalidArgument):
    """The request is larger than a certificate request needs to be."""

    reason = "CSR_TOO_LARGE"
    fix = "Ask for fewer names or a smaller key; metadata `max_bytes` is the limit."


class CsrSignatureInvalid(InvalidArgument):
    """The request is not signed by the key it contains, so it proves no possession, or uses a refused algorithm."""

    reason = "CSR_SIGNATURE_INVALID"
    fix = "Sign the request with the private key of the public key inside, with SHA-256, SHA-384 or SHA-512."


class KeyTypeRefused(InvalidArgument):
    """The profile does not allow keys of this type or size."""

    reason = "KEY_TYPE_REFUSED"
    fix = "Make a key of a type that metadata `allowed` lists; P-256 is always a good choice."


class KeyWeak(InvalidArgument):
    """The key has a property that makes it breakable: small factors, close primes, ROCA, a bad exponent, a bad point."""

    reason = "KEY_WEAK"
    fix = "Throw the key away, make a new one, and look at what made this one."


class KeyBlocked(FailedPrecondition):
    """The key is on the list of blocked keys, or is one of the CA's own."""

    reason = "KEY_BLOCKED"
    fix = "Make a new key; treat whatever used the old one as compromised."


class KeyReused(FailedPrecondition):
    """Another identity or person holds this key, and a key is bound to one."""

    reason = "KEY_REUSED"
    fix = "Make a key of its own for each identity and person."


class NameRefused(InvalidArgument):
    """A name breaks the grammar of its type, is reserved, or is outside what the profile allows."""

    reason = "NAME_REFUSED"
    fix = "Correct or remove the names that the violations list; docs/names.md has the grammar. Names are never normalized."


class NameMissing(InvalidArgument):
    """The profile needs a name that neither the request nor the CSR holds."""

    reason = "NAME_MISSING"
    fix = "Add a subject alternative name: `-addext subjectAltName=DNS:web.example.test`. The CN alone names nothing."


class TooManyNames(InvalidArgument):
    """The request holds more names than the profile allows."""

    reason = "TOO_MANY_NAMES"
    fix = "Split the request; metadata `max_names` is the limit."


class SubjectRefused(InvalidArgument):
    """The CSR's subject holds an attribute that the profile does not allow, or a CN that is not one of the names."""

    reason = "SUBJECT_REFUSED"
    fix = "Use an empty subject, or a CN that repeats one of the names."


class ExtensionRefused(InvalidArgument):
    """The CSR asks for an extension or a usage that the profile does not grant."""

    reason = "EXTENSION_REFUSED"
    fix = "Remove the extension from the request; the certificate's usages come from the profile."


class LifetimeRefused(InvalidArgument):
    """The wished lifetime is outside what the profile allows."""

    reason = "LIFETIME_REFUSED"
    fix = (
        "Ask for a lifetime from metadata `min_seconds` to `max_seconds`, or leave it out to get the profile's default."
    )


# --- People ---------------------------------------------------------------------------------------------------------


class OperatorNotFound(NotFound):
    """Nobody who operates the control plane has this name, or whoever had it was removed."""

    reason = "OPERATOR_NOT_FOUND"
    fix = "`keyreeve operator list` shows who there is."


class OperatorExists(AlreadyExists):
    """A person of this name is in another role."""

    reason = "OPERATOR_EXISTS"
    fix = "Give the person the other role (`keyreeve operator update`), or invite under another name."
    who = ADMIN


class LastAdmin(FailedPrecondition):
    """The control plane would be left without an admin who can call: one who was invited and never came does not count."""

    reason = "LAST_ADMIN"
    fix = "Invite another admin, wait until the invitation has been accepted, and repeat."
    who = ADMIN


class InvitationExpired(FailedPrecondition):
    """A person's certificates renew themselves until 7 days after the last invitation, and that time is over."""

    reason = "INVITATION_EXPIRED"
    fix = (
        "Have another admin invite you again: `keyreeve operator invite NAME --role ROLE`. While your certificate is good, "
        "your next command renews it then; afterwards, accept the token (`keyreeve operator accept --dir DIRECTORY`). "
        "A device whose key is in your record does as well: `keyreeve cert renew --device-key FILE`."
    )
    who = ADMIN


# --- The halt of issuance -------------------------------------------------------------------------------------------


class IssuanceHalted(FailedPrecondition):
    """Issuance has been halted: nothing is signed until admins let it go on."""

    reason = "ISSUANCE_HALTED"
    fix = "`keyreeve issuance status` tells why; what exists stays valid, and can be revoked. An admin resumes."
    who = ADMIN


class IssuanceNotHalted(FailedPrecondition):
    """Issuance was to be resumed, and is not halted."""

    reason = "ISSUANCE_NOT_HALTED"
    fix = "Nothing has to be done: somebody else has resumed it."


class SecondPersonRequired(PermissionDenied):
    """This takes two different people, and the first of them asked again: with whatever certificate, it is one person."""

    reason = "SECOND_PERSON_REQUIRED"
    fix = "Have another person do the same; metadata `approver` is the one who has."
    who = ADMIN


# --- Authorities ----------------------------------------------------------------------------------------------------


class AuthorityNotFound(NotFound):
    """No authority has this name."""

    reason = "AUTHORITY_NOT_FOUND"
    fix = "`keyreeve authority list` shows the names."


class AuthorityExists(AlreadyExists):
    """An authority of this name exists; names are never used twice."""

    reason = "AUTHORITY_EXISTS"
    fix = "Choose another `authority_id`."


class AuthorityRefused(InvalidArgument):
    """The authority asked for could not be a sound issuer: its issuer, key, path length, names or lifetime do not fit."""

    reason = "AUTHORITY_REFUSED"
    fix = "Correct what the message names."


class AuthorityStateWrong(FailedPrecondition):
    """The authority is not in a state from which this step is possible."""

    reason = "AUTHORITY_STATE_WRONG"
    fix = "`keyreeve authority show` tells the state; pending -> active -> retiring -> retired, and revoked from the first three."
    who = ADMIN


class AuthorityInUse(FailedPrecondition):
    """The authority cannot go yet: it is the last active one of its kind in its hierarchy, or has unexpired certificates."""

    reason = "AUTHORITY_IN_USE"
    fix = (
        "Without metadata `last_expiry`: activate a successor, then repeat. With it (seconds since 1970): wait until it has "
        "passed, then repeat."
    )
    who = ADMIN


class AuthorityExpiring(FailedPrecondition):
    """The authority expires too soon: a certificate with the profile's shortest lifetime would outlive it."""

    reason = "AUTHORITY_EXPIRING"
    fix = "Create and activate a successor."
    who = ADMIN


class NoActiveAuthority(FailedPrecondition):
    """The profile's hierarchy has no active authority that may issue."""

    reason = "NO_ACTIVE_AUTHORITY"
    fix = "Activate one: `keyreeve authority list` shows what is pending."
    who = ADMIN


class LintFindings(FailedPrecondition):
    """A certificate of this profile from this authority has lint findings that the allow-list does not excuse."""

    reason = "LINT_FINDINGS"
    fix = "Change the profile or authority as metadata `findings` says; an excuse needs an entry with a reason in the allow-list."
    who = ADMIN


class BundleNotFound(NotFound):
    """No trust bundle of this name exists."""

    reason = "BUNDLE_NOT_FOUND"
    fix = "Ask for `bundles/control` or `bundles/estate`."


# --- Profiles -------------------------------------------------------------------------------------------------------


class ProfileNotFound(NotFound):
    """No profile has this name, or it has no such version."""

    reason = "PROFILE_NOT_FOUND"
    fix = "`keyreeve profile list` shows the names."


class ProfileExists(AlreadyExists):
    """A profile of this name exists."""

    reason = "PROFILE_EXISTS"
    fix = "Make a new version with UpdateProfile (`keyreeve profile apply` does whichever is right)."


class ProfileInvalid(InvalidArgument):
    """The document is not a sound profile."""

    reason = "PROFILE_INVALID"
    fix = "Correct what the violations name; docs/profiles.md describes every key."


class ProfileVersionStale(KeyreeveError):
    """Somebody else made a newer version of the profile."""

    reason = "PROFILE_VERSION_STALE"
    code = "ABORTED"
    fix = "Read the newest version, apply the change to it, and repeat."


class ProfileHalted(FailedPrecondition):
    """Issuance under this profile has been halted because a sample of its certificates had lint findings."""

    reason = "PROFILE_HALTED"
    fix = "Read the alarm in the service's log, correct the profile, and apply the new version."
    who = ADMIN


# --- Certificates ---------------------------------------------------------------------------------------------------


class CertificateNotFound(NotFound):
    """No certificate has this serial number, or the caller may not see it."""

    reason = "CERTIFICATE_NOT_FOUND"
    fix = "`keyreeve cert list` shows those you may see; serial numbers are 32 lower-case hexadecimal digits."


class CertificateExpired(FailedPrecondition):
    """The certificate has expired: it can no longer be renewed, and need not be revoked."""

    reason = "CERTIFICATE_EXPIRED"
    fix = "Ask for a new certificate instead."


class CertificateRevoked(FailedPrecondition):
    """The certificate to be renewed has been revoked."""

    reason = "CERTIFICATE_REVOKED"
    fix = "Ask for a new certificate instead, with a new key; `keyreeve cert list --state revoked` says why it was revoked."


class RevocationNotAllowed(PermissionDenied):
    """The caller may see the certificate and may not revoke it."""

    reason = "REVOCATION_NOT_ALLOWED"
    fix = "Ask an admin; operators revoke what is neither an admin's nor a service's, others their own certificates."
    who = ADMIN


class OperationNotFound(NotFound):
    """No operation has this name, or the caller may not see or cancel it."""

    reason = "OPERATION_NOT_FOUND"
    fix = "`keyreeve operation list` shows those you may see; admins may cancel any, others those that they began."


class CallersRefused(FailedPrecondition):
    """An update of the feed of callers is not the CA service's, or does not follow from what is known."""

    reason = "CALLERS_REFUSED"
    fix = "Compare the clocks and the control bundle of this service; when both are right, somebody sits in between."
    who = OPERATOR


class RevocationListNotFound(NotFound):
    """No list of revoked certificates has been made for this authority and shard."""

    reason = "REVOCATION_LIST_NOT_FOUND"
    fix = "Take the address from the certificate's CRL distribution point; a new shard's list is there within a second."


class RenewalNotAllowed(PermissionDenied):
    """Only its holder, over mutual TLS with it, may renew a control certificate; others only the one who asked for them."""

    reason = "RENEWAL_NOT_ALLOWED"
    fix = "Renew with the certificate itself (control), or as the caller of the first request (others)."


class RenewalProofRequired(FailedPrecondition):
    """The renewal must be signed by the old key over a fresh nonce, which this answer's metadata `nonce` carries."""

    reason = "RENEWAL_PROOF_REQUIRED"
    fix = "Sign the nonce as docs/protocols.md says and repeat; the SDK does it when given the old key."


class RenewalProofInvalid(FailedPrecondition):
    """The signature of the old key, or of a device, over (serial, new key, nonce) is wrong, or the nonce is not good."""

    reason = "RENEWAL_PROOF_INVALID"
    fix = "Sign with the key of the certificate that is renewed, or with a device in your record; ask for a new nonce."


class RenewalSuperseded(FailedPrecondition):
    """The certificate has been renewed already, for another key."""

    reason = "RENEWAL_SUPERSEDED"
    fix = "Renew the newest certificate of the line; if you did not make the other key, tell an admin at once."
    who = ADMIN


class FinalCheckFailed(KeyreeveError):
    """The certificate that was about to be signed, or was signed, did not pass the CA's own check; it was thrown away."""

    reason = "FINAL_CHECK_FAILED"
    code = "INTERNAL"
    fix = "Look for the request id in the CA's log."
    who = DEVELOPER


# --- Enrollment ------------------------------------------------------------------------------------------------------


class TokenNotFound(NotFound):
    """No enrollment token has this name, or it ended more than 30 days ago."""

    reason = "TOKEN_NOT_FOUND"
    fix = "`keyreeve token list` shows the names: 32 lower-case hexadecimal digits."


class TokenNotAllowed(PermissionDenied):
    """A token is never worth more than the role of whoever makes it, and this one would be."""

    reason = "TOKEN_NOT_ALLOWED"
    fix = "Have somebody make it whose role may; metadata `allowed` lists the roles."
    who = ADMIN


class TokenUsed(FailedPrecondition):
    """The enrollment token has served its purpose: a key is bound to it, and another key, or the same one too late, came."""

    reason = "TOKEN_USED"
    fix = (
        "Ask for a new token. If nobody of yours has used this one, revoke its certificate at once: somebody else has."
    )
    who = ADMIN


class TokenExpired(FailedPrecondition):
    """The enrollment token's time is over."""

    reason = "TOKEN_EXPIRED"
    fix = "Ask for a new token; they live for an hour unless their maker says otherwise."
    who = OPERATOR


class TokenRevoked(FailedPrecondition):
    """The enrollment token was revoked, or its maker may no longer make such tokens."""

    reason = "TOKEN_REVOKED"
    fix = "Ask for a new token."
    who = OPERATOR


class TokenRefused(Unauthenticated):
    """No token of this id is open to whoever proved this: it is unknown, its secret is another, or it ended long ago."""

    reason = "TOKEN_REFUSED"
    fix = "Copy the whole token again, or ask for a new one; the answer is the same in all these cases."


class TokenMalformed(InvalidArgument):
    """The text is not an enrollment token, or not all of it."""

    reason = "TOKEN_MALFORMED"
    fix = "Copy the whole token, from `krt1_` to its end; a later version needs a later release."


class EnrollmentOff(FailedPrecondition):
    """This control plane has no listener for enrollees, so a token would lead nowhere."""

    reason = "ENROLLMENT_OFF"
    fix = "Set `enroll.port` (and `enroll.address`, if enrollees reach it by another name) and start the service again."
    who = ADMIN


class ClockSkewed(FailedPrecondition):
    """The clocks of the two sides differ by more than a minute, so validity would mean different things to them."""

    reason = "CLOCK_SKEWED"
    fix = "Set the clock of the machine that is wrong; metadata `server_time` and `client_time` show both."
    who = OPERATOR


class EnrollmentRootWrong(FailedPrecondition):
    """None of the certificates that the server showed is the root that the token names: it is another server."""

    reason = "ENROLLMENT_ROOT_WRONG"
    fix = "Check the address; if the root was replaced since the token was made, ask for a new token. Else somebody listens in."
    who = OPERATOR


class EnrollmentServerUnproven(FailedPrecondition):
    """The server did not prove that it knows the token's secret: it is another one, or somebody is in the middle."""

    reason = "ENROLLMENT_SERVER_UNPROVEN"
    fix = "Ask for a new token; if that fails too, the answers are being changed on their way."
    who = OPERATOR


# --- On the caller's side -------------------------------------------------------------------------------------------


class ServiceUnreachable(Unavailable):
    """No connection to the service: it does not run, the address is wrong, or it presented another name."""

    reason = "SERVICE_UNREACHABLE"
    fix = "Look at `keyreeve status`, then `keyreeve up`; check the endpoint in the context file."


class ContextInvalid(FailedPrecondition):
    """The context file is missing, cannot be read, or names files that cannot."""

    reason = "CONTEXT_INVALID"
    fix = "Run `keyreeve up` here, or point KEYREEVE_CONTEXT at a context file."


class FileUnusable(InvalidArgument):
    """A file or directory named to the command cannot be read or written, or does not hold what it should."""

    reason = "FILE_UNUSABLE"
    fix = "Check the path, its permissions and its contents; the message names them."


class WrongDatabase(FailedPrecondition):
    """The service's directory belongs to a control plane that the database of its settings does not hold.

    It is empty or another's. Starting would make a second control plane with other roots, which nobody trusts.
    """

    reason = "WRONG_DATABASE"
    fix = (
        "Set `database.url` (variable KEYREEVE_CA_DATABASE__URL) back to the database that the message names, or restore "
        "that one from a backup. Only to begin anew and lose everything: `keyreeve reset`."
    )
    who = OPERATOR


class StartFailed(FailedPrecondition):
    """A control plane was to be started on this machine, and one of its services did not come up."""

    reason = "START_FAILED"
    fix = "Read the lines of the log that the message shows; `keyreeve doctor` checks what usually goes wrong."
    who = OPERATOR


class CertificateUntrusted(FailedPrecondition):
    """The certificate does not lead to a trusted root, is outside its validity, or does not name what it should."""

    reason = "CERTIFICATE_UNTRUSTED"
    fix = (
        "Look at it with `keyreeve cert inspect`; check the name, the clock, and which bundle it was verified against."
    )
