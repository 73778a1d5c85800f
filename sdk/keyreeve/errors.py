"""Errors of the contract: one class per reason, raised by the services and by the clients.

The chassis translates an error into a `google.rpc.Status` with one `ErrorInfo(domain="keyreeve", reason, metadata)`, and
the SDK rebuilds the same class from it. A reason never changes its meaning (AIP-193). The docstring of a class is the
*cause*, `fix` is what to do, and `who` can do it: `keyreeve explain REASON` prints the three.

This module imports the standard library only, so that pure rules may raise from it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import ClassVar

DOMAIN = "keyreeve"

CALLER = "the caller"
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
    """The service gave a reason that this release does not know."""

    reason: ClassVar[str] = "UNKNOWN"
    code: ClassVar[str] = "UNKNOWN"
    """The gRPC status code's name, such as `INVALID_ARGUMENT`."""
    fix: ClassVar[str] = "Read the message; upgrade the client if the service is newer."
    who: ClassVar[str] = CALLER
    retryable: ClassVar[bool] = False
    """Whether the same request may succeed later although nothing is changed."""

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
        """The cause of the error: the first paragraph of the class's docstring, on one line."""
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
    """The request is invalid in any state of the service."""

    code = "INVALID_ARGUMENT"


class FailedPrecondition(KeyreeveError):
    """The present state does not allow the request; something else has to change first."""

    code = "FAILED_PRECONDITION"


class NotFound(KeyreeveError):
    """The resource does not exist, or the caller may not see it."""

    code = "NOT_FOUND"


class AlreadyExists(KeyreeveError):
    """A resource of this name exists."""

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
    """The base class of all reasons with a gRPC status code; `KeyreeveError` when there is none."""
    return _FAMILIES.get(code, KeyreeveError)


# --- The caller's identity ------------------------------------------------------------------------------------------------------


class PeerCertificateMissing(Unauthenticated):
    """The connection carries no client certificate."""

    reason = "PEER_CERTIFICATE_MISSING"
    fix = "Connect with the certificate and key of a context: `keyreeve status` shows which one is in use."


class PeerCertificateExpired(Unauthenticated):
    """The client certificate's notAfter has passed. It is checked on every call, on open connections too."""

    reason = "PEER_CERTIFICATE_EXPIRED"
    fix = (
        "Operators: have another admin invite you (`keyreeve operator invite NAME --role ROLE`) and accept into a new directory "
        "(`keyreeve operator accept --dir DIRECTORY`); on the machine that runs the CA, `keyreeve up` issues a new one. "
        "Services, members and workloads enroll again with a new token."
    )


class PeerCertificateNotYetValid(Unauthenticated):
    """The client certificate's notBefore is in the future: one of the two clocks is wrong."""

    reason = "PEER_CERTIFICATE_NOT_YET_VALID"
    fix = "Compare the clocks of both machines; `keyreeve doctor` measures the difference."
    who = OPERATOR


class PeerCertificateRevoked(Unauthenticated):
    """The client certificate has been revoked. Open channels and streams of its holder are refused too."""

    reason = "PEER_CERTIFICATE_REVOKED"
    fix = "Ask an admin for the reason. After a mistaken revocation or a lost key, get a new certificate."
    who = ADMIN


class RevocationsStale(Unavailable):
    """The service's knowledge of revocations is older than this method allows."""

    reason = "REVOCATIONS_STALE"
    fix = "Repeat the call later; if it persists, restore the service's connection to the CA service or its database."
    who = OPERATOR


class PeerIdentityInvalid(Unauthenticated):
    """The client certificate does not have exactly one URI SAN, a SPIFFE ID of a known form."""

    reason = "PEER_IDENTITY_INVALID"
    fix = "Use a certificate from the control hierarchy; DNS names and common names are never an identity."


class PeerTrustDomainWrong(Unauthenticated):
    """The SPIFFE ID in the client certificate belongs to another trust domain."""

    reason = "PEER_TRUST_DOMAIN_WRONG"
    fix = "Use the context of this control plane: the certificate comes from another one."


class PeerOperatorUnknown(Unauthenticated):
    """The certificate is an operator's, but the operator was removed or has another role now."""

    reason = "PEER_OPERATOR_UNKNOWN"
    fix = "Ask an admin for an invitation (`keyreeve operator invite`); on the CA's machine, run `keyreeve up`."
    who = ADMIN


class TicketRefused(Unauthenticated):
    """The call's ticket is malformed, not the CA service's, bound to another key, or not for this service or method."""

    reason = "TICKET_REFUSED"
    fix = "Only the gateway that opened a session can use its tickets; metadata `why` names the check that failed."


class TicketExpired(Unauthenticated):
    """The call's ticket has expired."""

    reason = "TICKET_EXPIRED"
    fix = "Renew the session before its ticket expires; once it has, the operator has to log in again."


class SessionClosed(Unauthenticated):
    """The operator's session was closed or has ended, or the operator was removed or has another role now."""

    reason = "SESSION_CLOSED"
    fix = "Log in again; ask an admin if that is refused too."


class SessionProofRefused(Unauthenticated):
    """The proof does not show that an operator opens a session at this gateway now."""

    reason = "SESSION_PROOF_REFUSED"
    fix = "Compare the clocks; sign for the gateway that is called, with the key of the certificate that is sent."


class SessionProofUsed(Unauthenticated):
    """A session was opened with this proof before."""

    reason = "SESSION_PROOF_USED"
    fix = "Make a new proof. If nobody did, a gateway repeats what it was given: tell the operators of the gateway."
    who = OPERATOR


class PeerNotMember(Unauthenticated):
    """The certificate's name is not that of a member of this server's array."""

    reason = "PEER_NOT_MEMBER"
    fix = "`keyreeve-agent status` on both servers prints the members that each of them knows."


class PeerIssuerUnknown(Unauthenticated):
    """The client certificate was not issued by an authority of the control hierarchy."""

    reason = "PEER_ISSUER_UNKNOWN"
    fix = "Use a certificate from the control hierarchy: certificates of the estate hierarchy and of arrays are not accepted here."


class AccessDenied(PermissionDenied):
    """The access rule of the method does not list the caller's role."""

    reason = "ACCESS_DENIED"
    fix = "Have it called by one of the roles that metadata `allowed` lists."
    who = ADMIN


class ProfileNotAllowed(PermissionDenied):
    """The profile does not list the caller's role under `requesters`."""

    reason = "PROFILE_NOT_ALLOWED"
    fix = "Use a profile that lists the role, or have an admin add it."
    who = ADMIN


# --- Requests in general --------------------------------------------------------------------------------------------


class MethodUnknown(KeyreeveError):
    """The service has no method of this name; names are exact."""

    reason = "METHOD_UNKNOWN"
    code = "UNIMPLEMENTED"
    fix = "Compare the client's release with the service's."


class HealthServiceUnknown(NotFound):
    """The health check names a service that this process does not serve."""

    reason = "HEALTH_SERVICE_UNKNOWN"
    fix = "Send the empty name, or a service that reflection lists."


class FieldInvalid(InvalidArgument):
    """A field is missing, or its value is not one that the contract allows."""

    reason = "FIELD_INVALID"
    fix = "Correct the fields that the violations name."


class RequestIdInvalid(InvalidArgument):
    """`request_id` is missing or is not a UUID in its 36-character lower-case form."""

    reason = "REQUEST_ID_INVALID"
    fix = "Send a UUID, preferably of version 7, which keeps the ledger fast. The SDK sends them."


class RequestIdReused(FailedPrecondition):
    """The caller sent this `request_id` for the same method with another payload in the last 24 hours."""

    reason = "REQUEST_ID_REUSED"
    fix = "Use a new `request_id` for each new request; reuse one only to repeat the same request."


class PageTokenInvalid(InvalidArgument):
    """The page token was not issued by this service to this caller for these filters."""

    reason = "PAGE_TOKEN_INVALID"
    fix = "Start again without a token; keep filters the same from page to page."


class DeadlineRequired(InvalidArgument):
    """The call has no deadline, or one that is later than the service allows."""

    reason = "DEADLINE_REQUIRED"
    fix = "Set a deadline (`timeout=` in Python, `-max-time` in grpcurl); metadata `max_seconds` is the longest."


class DeadlinePassed(KeyreeveError):
    """The deadline passed before the service answered; the work may or may not have been done."""

    reason = "DEADLINE_PASSED"
    code = "DEADLINE_EXCEEDED"
    fix = "Repeat with the same `request_id`: committed work is returned, not repeated."
    retryable = True


class TooManyInFlight(ResourceExhausted):
    """The service has as many calls in progress as it accepts."""

    reason = "TOO_MANY_IN_FLIGHT"
    fix = "Repeat after the delay in the response, as the SDK does."


class TooManyConnections(ResourceExhausted):
    """The peer has as many connections as one peer may have."""

    reason = "TOO_MANY_CONNECTIONS"
    fix = "Open one channel and share it."


class ServiceStopping(Unavailable):
    """The service is draining before it stops."""

    reason = "SERVICE_STOPPING"
    fix = "Repeat, as the SDK does: another process or replica answers."


class StoreUnavailable(Unavailable):
    """The database, or the process that writes to it, did not answer."""

    reason = "STORE_UNAVAILABLE"
    fix = "Repeat with the same `request_id`; if it persists, check the database and `keyreeve status`."
    who = OPERATOR


class AuditUnavailable(Unavailable):
    """The audit record could not be written, or a required audit sink failed; no call is answered without it."""

    reason = "AUDIT_UNAVAILABLE"
    fix = "Check the disk, the database and the audit sinks that the message names, then repeat with the same `request_id`."
    who = OPERATOR


class AuditRecordInvalid(InvalidArgument):
    """The gateway sent a verb record that may not be appended."""

    reason = "AUDIT_RECORD_INVALID"
    fix = "Name a verb, and keep each value below 256 characters."
    who = DEVELOPER


class AuditTampered(FailedPrecondition):
    """The audit log has been changed: records in its tables, or its newest part, were altered or removed."""

    reason = "AUDIT_TAMPERED"
    fix = "Preserve the database, its backups and the witness, and find out who had access to the database."
    who = ADMIN


class AuditCheckpointNotFound(NotFound):
    """There is no checkpoint of this number: it is not signed yet, or the log has lost it."""

    reason = "AUDIT_CHECKPOINT_NOT_FOUND"
    fix = "Get the newest one; if a witness has seen a higher number, run `keyreeve audit verify`."


class InternalError(KeyreeveError):
    """An unexpected error in the service; the details are in its log only."""

    reason = "INTERNAL"
    code = "INTERNAL"
    fix = "Search the service's log for the request id."
    who = DEVELOPER


# --- CSRs, keys and names -------------------------------------------------------------------------------------------


class CsrMalformed(InvalidArgument):
    """The bytes are not one PKCS #10 request in strict DER (RFC 2986), or the PEM text holds more than one object."""

    reason = "CSR_MALFORMED"
    fix = "Create the request with a maintained program, such as `openssl req -new`; send DER or one PEM block."


class CsrTooLarge(InvalidArgument):
    """The certificate request is larger than the limit."""

    reason = "CSR_TOO_LARGE"
    fix = "Request fewer names or use a smaller key; metadata `max_bytes` is the limit."


class CsrSignatureInvalid(InvalidArgument):
    """The request is not signed by the key that it contains, or the signature algorithm is not allowed."""

    reason = "CSR_SIGNATURE_INVALID"
    fix = "Sign the request with the private key of its public key, with SHA-256, SHA-384 or SHA-512."


class KeyTypeRefused(InvalidArgument):
    """The profile does not allow keys of this type or size."""

    reason = "KEY_TYPE_REFUSED"
    fix = "Generate a key of a type that metadata `allowed` lists, such as P-256."


class KeyWeak(InvalidArgument):
    """The key is weak: small factors, close primes, ROCA, an unsafe exponent, or an invalid point."""

    reason = "KEY_WEAK"
    fix = "Discard the key, generate a new one, and check the program that generated this one."


class KeyBlocked(FailedPrecondition):
    """The key is on the list of blocked keys, or is a key of the CA itself."""

    reason = "KEY_BLOCKED"
    fix = "Generate a new key; treat everything that used the old one as compromised."


class KeyReused(FailedPrecondition):
    """The key is bound to another identity or operator."""

    reason = "KEY_REUSED"
    fix = "Generate a separate key for each identity and operator."


class NameRefused(InvalidArgument):
    """A name is malformed, reserved, or not allowed by the profile."""

    reason = "NAME_REFUSED"
    fix = "Correct or remove the names that the violations list; docs/names.md has the grammar. Names are never normalized."


class NameMissing(InvalidArgument):
    """The profile requires a name that neither the request nor the CSR contains."""

    reason = "NAME_MISSING"
    fix = "Add a subject alternative name: `-addext subjectAltName=DNS:web.example.test`. A CN alone does not count."


class TooManyNames(InvalidArgument):
    """The request contains more names than the profile allows."""

    reason = "TOO_MANY_NAMES"
    fix = "Split the request; metadata `max_names` is the limit."


class SubjectRefused(InvalidArgument):
    """The CSR's subject has an attribute that the profile does not allow, or a CN that is not one of the names."""

    reason = "SUBJECT_REFUSED"
    fix = "Use an empty subject, or a CN that repeats one of the names."


class ExtensionRefused(InvalidArgument):
    """The CSR requests an extension or a usage that the profile does not allow."""

    reason = "EXTENSION_REFUSED"
    fix = "Remove the extension from the CSR; the profile decides the usages."


class LifetimeRefused(InvalidArgument):
    """The requested lifetime is not one that the profile allows."""

    reason = "LIFETIME_REFUSED"
    fix = "Request a lifetime from metadata `min_seconds` to `max_seconds`, or omit it to get the profile's default."


# --- Operators ---------------------------------------------------------------------------------------------------------


class OperatorNotFound(NotFound):
    """No operator has this name, or the operator was removed."""

    reason = "OPERATOR_NOT_FOUND"
    fix = "`keyreeve operator list` shows the names."


class SessionNotFound(NotFound):
    """No session has this name, or it is another operator's."""

    reason = "SESSION_NOT_FOUND"
    fix = "`keyreeve session list` shows the sessions."


class SshKeyNotFound(NotFound):
    """The operator has no key and no SSH CA with this fingerprint."""

    reason = "SSH_KEY_NOT_FOUND"
    fix = "`keyreeve operator ssh-key list NAME` shows the fingerprints."


class OperatorExists(AlreadyExists):
    """An operator of this name exists in another role."""

    reason = "OPERATOR_EXISTS"
    fix = "Change the role (`keyreeve operator update`), or invite under another name."
    who = ADMIN


class LastAdmin(FailedPrecondition):
    """The control plane would have no admin with a certificate; invited admins who have not accepted do not count."""

    reason = "LAST_ADMIN"
    fix = "Invite another admin, wait until the invitation is accepted, and repeat."
    who = ADMIN


class InvitationExpired(FailedPrecondition):
    """The last invitation is more than 7 days old; until then an operator's certificates renew themselves."""

    reason = "INVITATION_EXPIRED"
    fix = (
        "Have another admin invite you again: `keyreeve operator invite NAME --role ROLE`. While your certificate is good, "
        "your next command renews it then; afterwards, accept the token (`keyreeve operator accept --dir DIRECTORY`). "
        "A device whose key is in your record does as well: `keyreeve cert renew --device-key FILE`."
    )
    who = ADMIN


# --- The halt of issuance -------------------------------------------------------------------------------------------


class IssuanceHalted(FailedPrecondition):
    """Issuance is halted: nothing is signed until admins resume it."""

    reason = "ISSUANCE_HALTED"
    fix = "`keyreeve issuance status` shows the reason. Certificates stay valid and can be revoked. An admin resumes issuance."
    who = ADMIN


class IssuanceNotHalted(FailedPrecondition):
    """Issuance cannot be resumed, since it is not halted."""

    reason = "ISSUANCE_NOT_HALTED"
    fix = "Nothing to do: issuance goes on."


class TrustTableAltered(FailedPrecondition):
    """Rows that decide about rights were changed by something other than the service, so it issues nothing."""

    reason = "TRUST_TABLE_ALTERED"
    fix = (
        "On the service's machine, `keyreeve recover trust-tables` shows what was changed. Restore the database, or accept "
        "the tables as they are with `--seal`."
    )
    who = ADMIN


class KeyNotBlocked(NotFound):
    """The key is not on the list of blocked keys."""

    reason = "KEY_NOT_BLOCKED"
    fix = "`keyreeve blocked-key list` shows the keys that are; those of the settings' file are changed there."


class SecondPersonRequired(PermissionDenied):
    """This requires two different operators, and the same one has asked twice."""

    reason = "SECOND_PERSON_REQUIRED"
    fix = "Have another operator do the same; metadata `approver` is the first one."
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
    """The requested authority is not valid: its issuer, key, path length, names or lifetime do not fit."""

    reason = "AUTHORITY_REFUSED"
    fix = "Correct what the message names."


class AuthorityStateWrong(FailedPrecondition):
    """The authority's state does not allow this step."""

    reason = "AUTHORITY_STATE_WRONG"
    fix = "`keyreeve authority show` prints the state: pending (-> introduced) -> active -> retiring -> retired, or revoked."
    who = ADMIN


class AuthorityInUse(FailedPrecondition):
    """The authority is the last active one of its kind in its hierarchy, or has unexpired certificates."""

    reason = "AUTHORITY_IN_USE"
    fix = (
        "Without metadata `last_expiry`: activate a successor, then repeat. With it (seconds since 1970): repeat after that "
        "time."
    )
    who = ADMIN


class OrderOutdated(FailedPrecondition):
    """A later change of the array is known: the order comes from a leader that has been replaced, or is a repeat."""

    reason = "ORDER_OUTDATED"
    fix = (
        "Nothing: the service that leads now repeats what is still to be done. Metadata `fence`, `rotation` and `step` are the "
        "highest known."
    )


class NotEnrolled(FailedPrecondition):
    """The agent's state directory has no control certificate or no status of an agent."""

    reason = "NOT_ENROLLED"
    fix = "`keyreeve-agent enroll --token FILE` with a token that `keyreeve token create members/NAME` made, then start the agent."


class EpochDowngrade(FailedPrecondition):
    """An epoch of an array's bundle is below one that this server has seen."""

    reason = "DOWNGRADE"
    fix = "The membership service was restored without raising its restore generation, or it is an impostor: ask an admin."
    who = ADMIN


class EpochEquivocation(FailedPrecondition):
    """Two bundles claim to be the same epoch of an array, or an epoch does not follow the one before."""

    reason = "EQUIVOCATION"
    fix = (
        "Compare `keyreeve-agent status` of all members: someone is sent another bundle than the others. Ask an admin."
    )
    who = ADMIN


class PeerMaterialWrong(FailedPrecondition):
    """Peer certificate, key, bundle and CRLs on disk do not match or cannot be read."""

    reason = "PEER_MATERIAL_WRONG"
    fix = "Remove the agent's directory `peer`: it asks for a new certificate."


class ProgramNotReloaded(FailedPrecondition):
    """A local program did not take the new certificate."""

    reason = "PROGRAM_NOT_RELOADED"
    fix = "Run the reload command of the agent's settings by hand, and look into the program's log."


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
    """A certificate of this profile from this authority has lint findings that the allow-list does not cover."""

    reason = "LINT_FINDINGS"
    fix = (
        "Change the profile or authority as metadata `findings` says, or add an entry with a reason to the allow-list."
    )
    who = ADMIN


class BundleNotFound(NotFound):
    """No trust bundle of this name exists."""

    reason = "BUNDLE_NOT_FOUND"
    fix = "Use `bundles/control` or `bundles/estate`."


# --- Profiles -------------------------------------------------------------------------------------------------------


class ProfileNotFound(NotFound):
    """No profile has this name, or it has no such version."""

    reason = "PROFILE_NOT_FOUND"
    fix = "`keyreeve profile list` shows the names."


class ProfileExists(AlreadyExists):
    """A profile of this name exists."""

    reason = "PROFILE_EXISTS"
    fix = "Create a new version with UpdateProfile; `keyreeve profile apply` creates or updates."


class ProfileInvalid(InvalidArgument):
    """The document is not a valid profile."""

    reason = "PROFILE_INVALID"
    fix = "Correct what the violations name; docs/profiles.md describes every key."


class ProfileVersionStale(KeyreeveError):
    """A newer version of the profile has been created meanwhile."""

    reason = "PROFILE_VERSION_STALE"
    code = "ABORTED"
    fix = "Read the newest version, apply the change to it, and repeat."


class ProfileHalted(FailedPrecondition):
    """Issuance under this profile is halted, since a sample of its certificates had lint findings."""

    reason = "PROFILE_HALTED"
    fix = "Read the alarm in the service's log, correct the profile, and apply the new version."
    who = ADMIN


# --- Certificates ---------------------------------------------------------------------------------------------------


class CertificateNotFound(NotFound):
    """No certificate has this serial number or matches these conditions, or the caller may not see it."""

    reason = "CERTIFICATE_NOT_FOUND"
    fix = "`keyreeve cert list` shows those you may see; serial numbers are 32 lower-case hexadecimal digits."


class CertificateExpired(FailedPrecondition):
    """The certificate has expired: it can no longer be renewed, and need not be revoked."""

    reason = "CERTIFICATE_EXPIRED"
    fix = "Request a new certificate."


class CertificateRevoked(FailedPrecondition):
    """The certificate to be renewed has been revoked."""

    reason = "CERTIFICATE_REVOKED"
    fix = "Request a new certificate with a new key; `keyreeve cert list --state revoked` shows the reason of the revocation."


class RevocationNotAllowed(PermissionDenied):
    """The caller may see the certificate, but may not revoke it."""

    reason = "REVOCATION_NOT_ALLOWED"
    fix = "Ask an admin. Operators may not revoke certificates of admins and services; other callers may revoke their own only."
    who = ADMIN


class OperationNotFound(NotFound):
    """No operation has this name, or the caller may not see or cancel it."""

    reason = "OPERATION_NOT_FOUND"
    fix = (
        "`keyreeve operation list` shows those of the CA service that you may see, `keyreeve operation list --service "
        "membership` those of arrays; admins may cancel any, others those that they started."
    )


class CallersRefused(FailedPrecondition):
    """An update of the caller feed is not signed by the CA service, or does not follow the last one."""

    reason = "CALLERS_REFUSED"
    fix = (
        "Check the clock and the control bundle of this service; if both are right, suspect an attacker on the network."
    )
    who = OPERATOR


class RevocationListNotFound(NotFound):
    """No CRL has been published for this authority and shard."""

    reason = "REVOCATION_LIST_NOT_FOUND"
    fix = "Use the URL in the certificate's CRL distribution point; the CRL of a new shard appears within a second."


class RenewalNotAllowed(PermissionDenied):
    """A control certificate is renewed by its holder over mutual TLS with it, others by the caller who requested them."""

    reason = "RENEWAL_NOT_ALLOWED"
    fix = "Connect with the certificate itself (control hierarchy), or as the caller of the first request (others)."


class RenewalProofRequired(FailedPrecondition):
    """The old key must sign the renewal over a fresh nonce, which this error's metadata `nonce` contains."""

    reason = "RENEWAL_PROOF_REQUIRED"
    fix = "Sign the nonce as docs/protocols.md says, and repeat. The SDK does so when it is given the old key."


class RenewalProofInvalid(FailedPrecondition):
    """The signature of the old key or of a device over (serial, new key, nonce) is wrong, or the nonce is invalid."""

    reason = "RENEWAL_PROOF_INVALID"
    fix = "Sign with the key of the certificate that is renewed, or with a device in your record; use a new nonce."


class RenewalSuperseded(FailedPrecondition):
    """The certificate has already been renewed for another key."""

    reason = "RENEWAL_SUPERSEDED"
    fix = "Renew the newest certificate of the lineage; if the other key is not yours, report it to an admin at once."
    who = ADMIN


class FinalCheckFailed(KeyreeveError):
    """The certificate did not pass the CA's final check, and was discarded."""

    reason = "FINAL_CHECK_FAILED"
    code = "INTERNAL"
    fix = "Search the CA's log for the request id."
    who = DEVELOPER


# --- Enrollment ------------------------------------------------------------------------------------------------------


class TokenNotFound(NotFound):
    """No enrollment token has this name, or it ended more than 30 days ago."""

    reason = "TOKEN_NOT_FOUND"
    fix = "`keyreeve token list` shows the names: 32 lower-case hexadecimal digits."


class TokenNotAllowed(PermissionDenied):
    """The caller's role may not create tokens for this identity."""

    reason = "TOKEN_NOT_ALLOWED"
    fix = "Have it created by one of the roles that metadata `allowed` lists."
    who = ADMIN


class TokenUsed(FailedPrecondition):
    """The enrollment token has been used: it is bound to another key, or the time to repeat with its key is over."""

    reason = "TOKEN_USED"
    fix = "Ask for a new token. If you do not know who used this one, revoke its certificate at once."
    who = ADMIN


class TokenExpired(FailedPrecondition):
    """The enrollment token has expired."""

    reason = "TOKEN_EXPIRED"
    fix = "Ask for a new token; tokens are valid for an hour unless their creator chooses otherwise."
    who = OPERATOR


class TokenRevoked(FailedPrecondition):
    """The enrollment token was revoked, or its creator may no longer create such tokens."""

    reason = "TOKEN_REVOKED"
    fix = "Ask for a new token."
    who = OPERATOR


class TokenRefused(Unauthenticated):
    """The token is unknown, its secret is wrong, or it ended long ago."""

    reason = "TOKEN_REFUSED"
    fix = "Copy the whole token again, or ask for a new one."


class TokenMalformed(InvalidArgument):
    """The text is not a complete enrollment token."""

    reason = "TOKEN_MALFORMED"
    fix = "Copy the whole token, from `krt1_` to its end; a token of a later version needs a later release."


class ServiceAccountRefused(Unauthenticated):
    """The Kubernetes ServiceAccount token is not valid here, or its account may become no service."""

    reason = "SERVICE_ACCOUNT_REFUSED"
    fix = "Compare the pod's account, and the audience of its token, with `enroll.kubernetes` of the CA."
    who = ADMIN


class EnrollmentOff(FailedPrecondition):
    """This control plane has no enrollment listener."""

    reason = "ENROLLMENT_OFF"
    fix = "Set `enroll.port` (and `enroll.address`, if enrollees use another address) and restart the service."
    who = ADMIN


class ClockSkewed(FailedPrecondition):
    """The clocks of the two sides differ by more than a minute."""

    reason = "CLOCK_SKEWED"
    fix = "Set the clock of the machine that is wrong; metadata `server_time` and `client_time` show both."
    who = OPERATOR


class EnrollmentRootWrong(FailedPrecondition):
    """None of the certificates that the server presented is the root that the token names."""

    reason = "ENROLLMENT_ROOT_WRONG"
    fix = "Check the address; ask for a new token if the root was replaced since. Otherwise suspect an attacker."
    who = OPERATOR


class EnrollmentServerUnproven(FailedPrecondition):
    """The server did not prove that it knows the token's secret."""

    reason = "ENROLLMENT_SERVER_UNPROVEN"
    fix = "Ask for a new token; if that fails too, suspect an attacker on the network."
    who = OPERATOR


# --- The vault ------------------------------------------------------------------------------------------------------


class EntryNotFound(NotFound):
    """The vault has no such entry."""

    reason = "ENTRY_NOT_FOUND"
    fix = "Run `keyreeve vault list` for the entries of the array."


class EntryExists(AlreadyExists):
    """The array has an entry of this owner for this resource."""

    reason = "ENTRY_EXISTS"
    fix = "Change it with `keyreeve vault edit`, or delete it first."


class ImportRefused(InvalidArgument):
    """Lines of an import are wrong; the violations name them. Nothing has been imported."""

    reason = "IMPORT_REFUSED"
    fix = "Correct the lines that the violations name, and import again; --dry-run checks without changing anything."


class EntryVersionStale(KeyreeveError):
    """The entry has been changed meanwhile."""

    reason = "ENTRY_VERSION_STALE"
    code = "ABORTED"
    fix = "Read the entry again and repeat the change."


class EntryDamaged(KeyreeveError):
    """A stored row is not as it was written: bytes were changed, or it was copied from another place."""

    reason = "ENTRY_DAMAGED"
    code = "DATA_LOSS"
    fix = "Find out who wrote to the database; restore the row from a backup, or put the entry again."
    who = ADMIN


class VaultSealed(FailedPrecondition):
    """The vault is sealed: nothing opens and nothing is written."""

    reason = "VAULT_SEALED"
    fix = "Find out why (`keyreeve vault status`); `keyreeve vault unseal` opens it."
    who = ADMIN


class KeyNotFound(NotFound):
    """The array has no such key-encryption key."""

    reason = "KEY_NOT_FOUND"
    fix = "Run `keyreeve vault status --array NAME` for the keys of the array."


class RestartsUnknown(FailedPrecondition):
    """The service cannot know of restarts of an array's members: it has no address of the membership service."""

    reason = "RESTARTS_UNKNOWN"
    fix = "Set `vault.membership_address` in the settings of the credentials service, and start it again."
    who = OPERATOR


class KeyInUse(FailedPrecondition):
    """A key-encryption key is needed: it writes, values are encrypted under it, or backups that need it have not expired."""

    reason = "KEY_IN_USE"
    fix = "Rotate the key and wait for the re-encryption; wait until the time that the error names."
    who = ADMIN


class PolicyDenied(PermissionDenied):
    """No policy of the vault allows this caller, in its present membership, this purpose at this entry."""

    reason = "POLICY_DENIED"
    fix = "Ask an admin; `keyreeve vault policy list` shows the rules, and the message the caller's membership."
    who = ADMIN


class PolicyVersionStale(KeyreeveError):
    """A newer version of the policy has been applied meanwhile."""

    reason = "POLICY_VERSION_STALE"
    code = "ABORTED"
    fix = "Read the newest version (`keyreeve vault policy list`), apply the change to it, and repeat."


class PolicyDamaged(KeyreeveError):
    """A stored policy is not as it was written. While that is so, every access to the vault is denied."""

    reason = "POLICY_DAMAGED"
    code = "DATA_LOSS"
    fix = "Find out who wrote to the database; restore the table `policies` from a backup."
    who = ADMIN


class ReadRateExceeded(ResourceExhausted):
    """The caller reads secrets faster than one reader may."""

    reason = "READ_RATE_EXCEEDED"
    fix = "Wait as long as the error says; raise `vault.reads_per_second` if so many reads are normal."


class VaultKeyUnavailable(FailedPrecondition):
    """A key-encryption key of the vault cannot be used: it is missing, damaged, destroyed, or sealed under another root key."""

    reason = "VAULT_KEY_UNAVAILABLE"
    fix = (
        "Restore the directory of the vault's keys (`vault.keys_directory`) from where it is kept; entries under a key that "
        "has been destroyed cannot be read any more, and have to be put again."
    )
    who = ADMIN


# --- Membership -----------------------------------------------------------------------------------------------------


class ArrayNotFound(NotFound):
    """No array has this name."""

    reason = "ARRAY_NOT_FOUND"
    fix = "`keyreeve array list` shows the names."


class ArrayExists(AlreadyExists):
    """An array of this name exists or existed; names are never used twice."""

    reason = "ARRAY_EXISTS"
    fix = "Choose another `array_id`."


class MemberNotFound(NotFound):
    """No server of this name is in the roll."""

    reason = "MEMBER_NOT_FOUND"
    fix = "`keyreeve member list` shows the names; `keyreeve array create` registers a server."


class MemberExists(AlreadyExists):
    """A server of this name is in the roll."""

    reason = "MEMBER_EXISTS"
    fix = "Use the server's own array (`keyreeve member show`)."


class MemberStateWrong(FailedPrecondition):
    """The state of the server does not allow this."""

    reason = "MEMBER_STATE_WRONG"
    fix = "`keyreeve member show` prints the state; wait for the end of the change of its array, or readmit the server."
    who = OPERATOR


class ClonedMember(FailedPrecondition):
    """Two starts of a server's agent report in turn: the server was copied, or put back to a snapshot."""

    reason = "CLONED_MEMBER"
    fix = (
        "Stop the copy. Then `keyreeve member readmit` takes the server back; a member of an array with others is quarantined "
        "first."
    )
    who = OPERATOR


class SameServer(InvalidArgument):
    """A server was to join itself."""

    reason = "SAME_SERVER"
    fix = "Name two different servers."


class NotPrimary(FailedPrecondition):
    """The server that was named as the primary is not the primary of its array."""

    reason = "NOT_PRIMARY"
    fix = "`keyreeve array show` names the primary."


class NotSecondary(FailedPrecondition):
    """The server is no secondary of an array."""

    reason = "NOT_SECONDARY"
    fix = "`keyreeve member list` shows which servers are."


class NotStandalone(FailedPrecondition):
    """The server is in an array with others, or is joining one."""

    reason = "NOT_STANDALONE"
    fix = "Detach it from its array first (`keyreeve array detach`)."
    who = OPERATOR


class ReleaseMismatch(FailedPrecondition):
    """The two servers run releases of different families."""

    reason = "RELEASE_MISMATCH"
    fix = "Install the release of the primary on the joining server."
    who = OPERATOR


class FingerprintMismatch(FailedPrecondition):
    """The accepted fingerprint is not that of the CA that would be trusted."""

    reason = "FINGERPRINT_MISMATCH"
    fix = "Compare with `keyreeve array show` at the other side; if it differs there, suspect an attacker."


class PeerSecurityMismatch(FailedPrecondition):
    """Peer security is on at one of the two servers and off at the other."""

    reason = "PEER_SECURITY_MISMATCH"
    fix = "Set it alike on both, while the server that changes stands alone and is stopped."
    who = OPERATOR


class ChangeInProgress(FailedPrecondition):
    """The array is being changed already; there is one structural change at a time."""

    reason = "CHANGE_IN_PROGRESS"
    fix = (
        "Wait for the operation in metadata `operation` (`keyreeve operation list --service membership`), or cancel it "
        "(`keyreeve operation cancel NAME --service membership`)."
    )
    who = OPERATOR


class ViewsDisagree(FailedPrecondition):
    """Members see the array otherwise than the roll: an earlier change has not reached them."""

    reason = "VIEWS_DISAGREE"
    fix = "Wait until `keyreeve member list` shows no differences; quarantine a member that is gone for good."
    who = OPERATOR


class ViewsAgree(FailedPrecondition):
    """All members see the array as the roll does, so that there is nothing to clean."""

    reason = "VIEWS_AGREE"
    fix = "Detach the server, or clean it whatever the members say."


class PrimaryCannotDetach(FailedPrecondition):
    """The primary cannot leave its array."""

    reason = "PRIMARY_CANNOT_DETACH"
    fix = (
        "Promote another member first (`keyreeve array promote`). While a rotation waits for a dead primary, it can be "
        "quarantined by name (`keyreeve member quarantine`)."
    )
    who = OPERATOR


class MemberUnreachable(FailedPrecondition):
    """The server has not reported lately, or did not do its part in time."""

    reason = "UNREACHABLE"
    fix = "Start its agent, and see `keyreeve member show`; quarantine a secondary that is gone for good."
    who = OPERATOR


class SessionsRunning(FailedPrecondition):
    """The server has running or suspended sessions."""

    reason = "SESSIONS_RUNNING"
    fix = "End the sessions first."
    who = OPERATOR


class BackupPrimaryExists(AlreadyExists):
    """The server is a backup primary of its array."""

    reason = "BACKUP_PRIMARY_EXISTS"
    fix = "Move it with `keyreeve array backup-move`."


class BackupPrimaryNotFound(NotFound):
    """The server is no backup primary of its array."""

    reason = "BACKUP_PRIMARY_NOT_FOUND"
    fix = "`keyreeve array show` lists the backup primaries."


class SettingUnknown(NotFound):
    """No setting has this name."""

    reason = "SETTING_UNKNOWN"
    fix = "`keyreeve array settings` lists the settings."


class SettingInvalid(InvalidArgument):
    """The setting does not take this value."""

    reason = "SETTING_INVALID"
    fix = "Metadata `values` says what it takes."


class ServerRunning(FailedPrecondition):
    """The setting changes only while the programs of the server are stopped."""

    reason = "SERVER_RUNNING"
    fix = "Stop the programs of the server; its agent reports that."
    who = OPERATOR


class RenewalPaced(ResourceExhausted):
    """Certificates of other servers end first, and the budget for renewals is used up."""

    reason = "RENEWAL_PACED"
    fix = "Repeat after the time in RetryInfo; the agent does that."


class RotationNotFound(NotFound):
    """No rotation has this name."""

    reason = "ROTATION_NOT_FOUND"
    fix = "`keyreeve rotation list` shows the names."


class RotationStateWrong(FailedPrecondition):
    """The rotation has come too far, or has ended."""

    reason = "ROTATION_STATE_WRONG"
    fix = "`keyreeve rotation list` shows the phases; start another rotation."
    who = OPERATOR


class EpochNotFound(NotFound):
    """The array has no epoch of this number."""

    reason = "EPOCH_NOT_FOUND"
    fix = "`keyreeve bundle epochs` shows the numbers."


class DigestMismatch(FailedPrecondition):
    """The server has loaded other certificates than those of the epoch."""

    reason = "DIGEST_MISMATCH"
    fix = "Load the epoch again; if the digest still differs, suspect an attacker between the server and the control plane."


# --- Objects and launches -------------------------------------------------------------------------------------------


class ObjectNotFound(NotFound):
    """The array has no such application server, application or user profile."""

    reason = "OBJECT_NOT_FOUND"
    fix = (
        "Run `keyreeve vault object list` for the objects of the array, or create it with `keyreeve vault object put`."
    )


class ObjectExists(AlreadyExists):
    """The array has an object of this name."""

    reason = "OBJECT_EXISTS"
    fix = "Change it with `keyreeve vault object edit`, or delete it first."


class ObjectVersionStale(KeyreeveError):
    """The object has been changed meanwhile."""

    reason = "OBJECT_VERSION_STALE"
    code = "ABORTED"
    fix = "Read the object again and repeat the change."


# --- Key files ------------------------------------------------------------------------------------------------------


class KeyFileNotFound(NotFound):
    """The server has no file of this name."""

    reason = "KEY_FILE_NOT_FOUND"
    fix = "Run `keyreeve vault file list` for the files of the server."


class KeyFileExists(AlreadyExists):
    """The server has a file of this name."""

    reason = "KEY_FILE_EXISTS"
    fix = "Choose another name, or pass --replace; the replaced file is kept under another name."


class KeyFileInUse(FailedPrecondition):
    """A service uses the file, or the certificate of the key: the change would break the service at once."""

    reason = "KEY_FILE_IN_USE"
    fix = (
        "Renew a key under a new basename, and assign other files to the service before these are renamed or deleted "
        "(`keyreeve vault file assign`). With --force it is done at once; replaced files are kept under other names."
    )
    who = OPERATOR


class KeyFileUnreadable(InvalidArgument):
    """The file does not contain what is asked for, or in a form that is not known."""

    reason = "KEY_FILE_UNREADABLE"
    fix = "Run `keyreeve vault file inspect` to see what it contains; unlock a key that is locked with a passphrase."


class KeyFileUnsuitable(FailedPrecondition):
    """The contents of the file cannot be used for this."""

    reason = "KEY_FILE_UNSUITABLE"
    fix = "Read the message; `keyreeve vault file inspect` shows what the files contain."


class KeyFilesTooMany(FailedPrecondition):
    """The server has 1,000 files."""

    reason = "KEY_FILES_TOO_MANY"
    fix = "Delete files that are not needed any more, such as replaced ones."


class KeyFileDamaged(KeyreeveError):
    """A stored file is not as it was written: bytes were changed, or it was copied from another place."""

    reason = "KEY_FILE_DAMAGED"
    code = "DATA_LOSS"
    fix = "Find out who wrote to the database; put the file again."
    who = ADMIN


class KeyFileTooLarge(InvalidArgument):
    """The file is larger than 1 MiB."""

    reason = "KEY_FILE_TOO_LARGE"
    fix = "Keys, certificates and bundles are small: check that this is the right file."


class PassphraseWrong(FailedPrecondition):
    """The passphrase does not open the file, or the file is damaged."""

    reason = "PASSPHRASE_WRONG"
    fix = "Try the passphrase with `openssl pkey -in FILE` or `openssl pkcs12 -info -in FILE`."


# --- Raised by the client -------------------------------------------------------------------------------------------


class ServiceUnreachable(Unavailable):
    """There is no connection to the service: it does not run, its address is wrong, or it presented another name."""

    reason = "SERVICE_UNREACHABLE"
    fix = "Run `keyreeve status`, then `keyreeve up`; check the addresses in the context file."


class ContextInvalid(FailedPrecondition):
    """The context file, or a file that it names, is missing or invalid."""

    reason = "CONTEXT_INVALID"
    fix = "Run `keyreeve up` here, or set KEYREEVE_CONTEXT to a context file."


class FileUnusable(InvalidArgument):
    """A file or directory cannot be read or written, or has unexpected contents."""

    reason = "FILE_UNUSABLE"
    fix = "Check the path, its permissions and its contents; the message names them."


class WrongDatabase(FailedPrecondition):
    """The database in the settings is not that of the control plane in this state directory.

    It is empty, or another control plane's. Starting would create a second control plane with other roots.
    """

    reason = "WRONG_DATABASE"
    fix = (
        "Set `database.url` (variable KEYREEVE_CA_DATABASE__URL) back to the database that the message names, or restore "
        "that one from a backup. `keyreeve reset` deletes everything and begins anew."
    )
    who = OPERATOR


class StartFailed(FailedPrecondition):
    """A service of the control plane on this machine did not start."""

    reason = "START_FAILED"
    fix = "Read the log lines in the message; `keyreeve doctor` checks for common problems."
    who = OPERATOR


class PackageMissing(FailedPrecondition):
    """Python packages that this command needs are not installed."""

    reason = "PACKAGE_MISSING"
    fix = "Install the extra that the message names, with the Python that runs the command."


class CertificateUntrusted(FailedPrecondition):
    """The certificate does not lead to a trusted root, is not valid now, or does not have the expected name."""

    reason = "CERTIFICATE_UNTRUSTED"
    fix = "Run `keyreeve cert inspect`; check the name, the clock, and the bundle that it was verified against."
