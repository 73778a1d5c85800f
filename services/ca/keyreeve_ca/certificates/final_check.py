"""The last look before a signature: is this TBSCertificate, byte by byte, what policy decided?

It reads the encoded certificate with a reader of its own and decides by rules of its own: it shares no code with the
encoder (`template`, `der`) nor with policy, so that a mistake in either cannot hide in both. It is strict: one order of
extensions, no extension more or less, shortest lengths only. What recurs in certificates of one second or one profile
is decoded once (the caches below are keyed by the encoded bytes themselves). Only what has passed can be signed: the
result is a `CheckedTbs`.
"""

from functools import lru_cache
from hashlib import sha256

from cryptography import x509

from keyreeve.errors import FinalCheckFailed
from keyreeve_ca.certificates.final_reading import (
    BIT_STRING,
    BOOLEAN,
    INTEGER,
    OCTET_STRING,
    OID,
    SEQUENCE,
    Malformed,
    NamesCheck,
    enter,
    enter_whole,
    read_time,
)
from keyreeve_ca.certificates.final_subject import SubjectCheck
from keyreeve_ca.certificates.plan import CertificatePlan, Issuer
from keyreeve_ca.certificates.signers import CheckedTbs, mark_checked
from keyreeve_ca.profiles.profile import KeyUsage, Profile, ProfileVersion

# Encoded by hand from the RFCs, not by our encoder. Signature algorithms: RFC 5758, 4055, 8410.
_SIGNATURE_ALGORITHM = {
    "p256": bytes.fromhex("300a06082a8648ce3d040302"),
    "p384": bytes.fromhex("300a06082a8648ce3d040303"),
    "rsa2048": bytes.fromhex("300d06092a864886f70d01010b0500"),
    "rsa3072": bytes.fromhex("300d06092a864886f70d01010b0500"),
    "rsa4096": bytes.fromhex("300d06092a864886f70d01010c0500"),
    "ed25519": bytes.fromhex("300506032b6570"),
}
# AlgorithmIdentifier of the certified key: RFC 5480, 3279, 8410.
_EC_P256 = bytes.fromhex("301306072a8648ce3d020106082a8648ce3d030107")
_EC_P384 = bytes.fromhex("301006072a8648ce3d020106052b81040022")
_RSA = bytes.fromhex("300d06092a864886f70d0101010500")
_ED25519 = bytes.fromhex("300506032b6570")
_KEY_BY_ALGORITHM = {_EC_P256: ("p256", 66), _EC_P384: ("p384", 98), _ED25519: ("ed25519", 33)}
_RSA_BY_BITS = {2048: "rsa2048", 3072: "rsa3072", 4096: "rsa4096"}

_AUTHORITY_KEY = bytes.fromhex("551d23")
_SUBJECT_KEY = bytes.fromhex("551d0e")
_KEY_USAGE = bytes.fromhex("551d0f")
_EXTENDED_KEY_USAGE = bytes.fromhex("551d25")
_BASIC_CONSTRAINTS = bytes.fromhex("551d13")
_ALTERNATIVE_NAMES = bytes.fromhex("551d11")
_NAME_CONSTRAINTS = bytes.fromhex("551d1e")
_CRL_ADDRESS = bytes.fromhex("551d1f")
_ACCESS = bytes.fromhex("2b06010505070101")
_OCSP = bytes.fromhex("2b06010505073001")
_CA_ISSUERS = bytes.fromhex("2b06010505073002")
_PURPOSES = {"server_auth": bytes.fromhex("2b06010505070301"), "client_auth": bytes.fromhex("2b06010505070302")}
_BIT_OF_USAGE = {"digital_signature": 0x80, "key_encipherment": 0x20}
_KEY_CERT_SIGN = 0x04

_VERSION_3 = bytes.fromhex("a003020102")
_SHA256_BITS_USED = 20
_LONGEST_CHECK = 900
"""Seconds of a certificate that an introduced authority signs."""

Expected = tuple[bytes, bool, object]
"""An extension: its OID, whether it is critical, what it means (None: differs from certificate to certificate)."""


def _is_peer_check(profile: Profile) -> bool:
    """Whether all that a profile grants is one client's name below `probe.{trust domain}`, for 15 minutes."""
    return (
        profile.hierarchy == "standalone"
        and {str(purpose) for purpose in profile.extended_key_usage} == {"client_auth"}
        and profile.maximum_lifetime.total_seconds() <= _LONGEST_CHECK
        and profile.dns is not None
        and profile.dns.maximum == 1
        and list(profile.dns.patterns) == ["*.probe.{trust_domain}"]
        and (profile.ip, profile.uri, profile.email) == (None, None, None)
    )


class FinalCheck:
    """The final check of one profile version's certificates from one authority.

    Every failure is `FinalCheckFailed`, and then nothing is signed.
    """

    def __init__(self, profile_version: ProfileVersion, issuer: Issuer, trust_domain: str) -> None:
        profile = profile_version.profile
        try:
            facts = _IssuerFacts(issuer.certificate_der)
            self._names = NamesCheck(profile, issuer.hierarchy, trust_domain, facts.name_constraints)
        except (Malformed, IndexError) as error:
            raise FinalCheckFailed(f"the authority's certificate cannot issue: {error}") from error
        if (facts.not_before, facts.not_after) != (issuer.not_before, issuer.not_after):
            raise FinalCheckFailed("the authority's validity is not that of its certificate")
        if facts.key_type != issuer.key_type:
            raise FinalCheckFailed("the authority's key type is not that of its certificate")
        if profile.hierarchy != issuer.hierarchy:
            raise FinalCheckFailed(f"profile {profile_version.name} is for another hierarchy than {issuer.hierarchy}")
        if issuer.introduced and not _is_peer_check(profile):
            raise FinalCheckFailed(f"authority {issuer.authority_id} is introduced: it signs peer checks alone")
        self._profile_sha256 = profile_version.sha256
        self._issuer = facts
        self._algorithm_and_issuer = _SIGNATURE_ALGORITHM[issuer.key_type] + facts.subject
        self._keys = frozenset(str(key) for key in profile.keys)
        self._longest = int(profile.maximum_lifetime.total_seconds())  # the backdating is part of it
        self._common_name = str(profile.common_name)
        self._subject = SubjectCheck(profile)
        self._addresses = f"{issuer.url}/crl/{issuer.authority_id}/"
        access = (f"{issuer.url}/ocsp", f"{issuer.url}/ca/{issuer.authority_id}.crt")
        purposes = frozenset(_PURPOSES[purpose] for purpose in profile.extended_key_usage)

        def shape(usages: frozenset[KeyUsage]) -> tuple[Expected, ...]:
            bits = sum(_BIT_OF_USAGE[usage] for usage in usages)
            return (
                (_AUTHORITY_KEY, False, facts.key_id),
                (_SUBJECT_KEY, False, None),
                *([(_KEY_USAGE, True, bits)] if bits else []),
                *([(_EXTENDED_KEY_USAGE, False, purposes)] if purposes else []),
                (_BASIC_CONSTRAINTS, True, b""),
                (_ALTERNATIVE_NAMES, False, None),
                (_CRL_ADDRESS, False, None),
                (_ACCESS, False, access),
            )

        self._shape_rsa = shape(profile.key_usage)
        self._shape_other = shape(profile.key_usage - {KeyUsage.KEY_ENCIPHERMENT})

    def check_tbs(self, tbs: bytes, plan: CertificatePlan, serial: bytes, crl_shard: int) -> CheckedTbs:
        """Check that `tbs` encodes exactly the plan under this serial number.

        Returns a `CheckedTbs`, the only thing that signers take. Raises `FinalCheckFailed`.
        """
        if plan.profile.sha256 != self._profile_sha256:
            raise FinalCheckFailed("the plan was made under another version of the profile")
        try:
            self._walk(tbs, plan, serial, crl_shard)
        except (Malformed, IndexError) as error:
            raise FinalCheckFailed(f"the TBSCertificate is not what was planned: {error}") from error
        return mark_checked(tbs)

    def _walk(self, tbs: bytes, plan: CertificatePlan, serial: bytes, crl_shard: int) -> None:
        position, end = enter_whole(tbs, SEQUENCE)
        if not tbs.startswith(_VERSION_3, position):
            raise Malformed("version")
        position += 5
        if len(serial) != 16 or not 0x40 <= serial[0] <= 0x7F:
            raise Malformed("serial number is not 16 positive octets")
        if not tbs.startswith(b"\x02\x10" + serial, position):
            raise Malformed("serial number")
        position += 18
        if not tbs.startswith(self._algorithm_and_issuer, position):
            raise Malformed("signature algorithm or issuer")
        position += len(self._algorithm_and_issuer)
        start, position = enter(tbs, position, end, SEQUENCE)
        self._check_validity(_validity(tbs[start:position]), plan)
        start, position = enter(tbs, position, end, SEQUENCE)
        has_subject = start != position
        common_name = self._subject.check(tbs[start:position], plan) if has_subject else None
        if common_name != plan.common_name or (plan.attributes and not has_subject):
            raise Malformed("subject")
        if not tbs.startswith(plan.spki, position):
            raise Malformed("the key is not the CSR's")
        start, position = enter(tbs, position, end, SEQUENCE)
        key_type, key_id = _read_key(tbs[start:position])
        if key_type != plan.key_type or key_type not in self._keys:
            raise Malformed(f"a key of type {key_type}")
        start, stop = enter(tbs, position, end, 0xA3)
        start, last = enter(tbs, start, stop, SEQUENCE)
        if not last == stop == end:
            raise Malformed("something follows the extensions")
        self._check_extensions(tbs[start:last], plan, has_subject, key_type, key_id, crl_shard)
        self._check_common_name(common_name, plan, has_subject=has_subject)

    def _check_validity(self, found: tuple[int, int], plan: CertificatePlan) -> None:
        not_before, not_after = found
        if not_before != plan.not_before or not_after != plan.not_after:
            raise Malformed("validity")
        if not self._issuer.not_before <= not_before <= not_after <= self._issuer.not_after:
            raise Malformed("validity reaches beyond the issuer's")
        if not_after - not_before + 1 > self._longest:  # both ends are valid seconds: RFC 5280, 4.1.2.5
            raise Malformed("validity is longer than the profile's maximum")

    def _check_extensions(  # noqa: PLR0917
        self, data: bytes, plan: CertificatePlan, has_subject: bool, key_type: str, key_id: bytes, crl_shard: int
    ) -> None:
        position = 0
        end = len(data)
        for oid, critical, meaning in self._shape_rsa if key_type[0] == "r" else self._shape_other:
            start, position = enter(data, position, end, SEQUENCE)
            body = data[start:position]
            if oid is _SUBJECT_KEY:
                if body != b"\x06\x03\x55\x1d\x0e\x04\x16\x04\x14" + key_id:
                    raise Malformed("subject key identifier")
            elif oid is _ALTERNATIVE_NAMES:
                found_oid, found_critical, value = _read_extension(body)
                if found_oid != oid or found_critical is has_subject:
                    raise Malformed("subject alternative name, or its criticality")
                self._names.check(value, plan.names)
            else:
                wanted = meaning if oid is not _CRL_ADDRESS else f"{self._addresses}{crl_shard}.crl"
                if _decode_extension(body) != (oid, critical, wanted):
                    raise Malformed(f"extension {oid.hex()}")
        if position != end:
            raise Malformed("an extension too many")

    def _check_common_name(self, common_name: str | None, plan: CertificatePlan, *, has_subject: bool) -> None:
        if common_name is None:
            if self._common_name == "required":
                raise Malformed("the common name is missing")
        elif self._common_name == "forbidden":
            raise Malformed("a common name")
        elif not any(name.type == "dns" and name.value == common_name for name in plan.names):
            self._subject.check_text(common_name)
        if not has_subject and self._subject.fixed:
            raise Malformed("the fixed attributes of the subject are missing")


def check_signed(certificate_der: bytes, tbs: bytes) -> None:
    """Parse a signed certificate: `tbs`, its algorithm, a signature, nothing more.

    The signature itself is not verified: verifying costs four times as much as signing. A background job verifies a
    sample. Raises `FinalCheckFailed`.
    """
    try:
        _walk_signed(certificate_der, tbs)
        parsed = x509.load_der_x509_certificate(certificate_der)
    except (Malformed, IndexError, ValueError) as error:
        raise FinalCheckFailed(f"the signed certificate does not read back: {error}") from error
    if parsed.tbs_certificate_bytes != tbs:
        raise FinalCheckFailed("the signed certificate does not read back as what was signed")


def _walk_signed(certificate_der: bytes, tbs: bytes) -> None:
    start, end = enter_whole(certificate_der, SEQUENCE)
    if not certificate_der.startswith(tbs, start):
        raise Malformed("what was signed is not what was checked")
    position = start + len(tbs)
    inner, _ = enter_whole(tbs, SEQUENCE)
    _, algorithm = enter(tbs, inner + len(_VERSION_3), len(tbs), INTEGER)
    _, algorithm_end = enter(tbs, algorithm, len(tbs), SEQUENCE)
    if not certificate_der.startswith(tbs[algorithm:algorithm_end], position):
        raise Malformed("the outer algorithm is not the inner one")
    start, stop = enter(certificate_der, position + algorithm_end - algorithm, end, BIT_STRING)
    if stop != end or stop - start < 64 or certificate_der[start] != 0:
        raise Malformed("the signature is not a whole BIT STRING")


class _IssuerFacts:
    """What an authority's own certificate says, as this module's reader reads it."""

    def __init__(self, certificate_der: bytes) -> None:
        start, end = enter_whole(certificate_der, SEQUENCE)
        position, end = enter(certificate_der, start, end, SEQUENCE)
        for tag in (0xA0, INTEGER, SEQUENCE, SEQUENCE):  # version, serial, algorithm, issuer
            _, position = enter(certificate_der, position, end, tag)
        start, position = enter(certificate_der, position, end, SEQUENCE)
        self.not_before, self.not_after = _validity(certificate_der[start:position])
        subject = position
        start, position = enter(certificate_der, position, end, SEQUENCE)
        self.subject = certificate_der[subject:position]
        if start == position:
            raise Malformed("its name is empty")
        start, position = enter(certificate_der, position, end, SEQUENCE)
        self.key_type, _ = _read_key(certificate_der[start:position])
        start, stop = enter(certificate_der, position, end, 0xA3)
        position, end = enter(certificate_der, start, stop, SEQUENCE)
        extensions: dict[bytes, bytes] = {}
        while position < end:
            start, position = enter(certificate_der, position, end, SEQUENCE)
            oid, _, value = _read_extension(certificate_der[start:position])
            extensions[oid] = value
        # BasicConstraints begins with cA TRUE, KeyUsage holds keyCertSign.
        if extensions.get(_BASIC_CONSTRAINTS, b"")[2:5] != b"\x01\x01\xff":
            raise Malformed("it is not a CA's")
        if not extensions.get(_KEY_USAGE, b"\x03\x02\x00\x00")[3] & _KEY_CERT_SIGN:
            raise Malformed("its key may not sign certificates")
        start, stop = enter_whole(extensions.get(_SUBJECT_KEY, b""), OCTET_STRING)
        self.key_id = extensions[_SUBJECT_KEY][start:stop]
        self.name_constraints = extensions.get(_NAME_CONSTRAINTS)


@lru_cache(maxsize=1024)
def _validity(content: bytes) -> tuple[int, int]:
    not_before, position = read_time(content, 0)
    not_after, position = read_time(content, position)
    if position != len(content):
        raise Malformed("validity")
    return not_before, not_after


def _read_key(content: bytes) -> tuple[str, bytes]:
    """Return key type and RFC 7093 identifier from the content of a SubjectPublicKeyInfo."""
    end = len(content)
    _, position = enter(content, 0, end, SEQUENCE)
    algorithm = content[:position]
    start, stop = enter(content, position, end, BIT_STRING)
    if stop != end or content[start] != 0:
        raise Malformed("key")
    key_id = sha256(content[start + 1 :]).digest()[:_SHA256_BITS_USED]
    known = _KEY_BY_ALGORITHM.get(algorithm)
    if known is not None:
        if stop - start != known[1]:
            raise Malformed("key")
        return known[0], key_id
    if algorithm != _RSA:
        raise Malformed("a key of an unknown type")
    start, stop = enter(content, start + 1, end, SEQUENCE)
    modulus, stop = enter(content, start, stop, INTEGER)
    bits = int.from_bytes(content[modulus:stop], "big").bit_length()
    return _RSA_BY_BITS.get(bits, f"rsa of {bits} bits"), key_id


def _read_extension(body: bytes) -> tuple[bytes, bool, bytes]:
    """Return OID, criticality and value of an extension. An encoded `critical` FALSE is refused (X.690, 11.5)."""
    end = len(body)
    start, position = enter(body, 0, end, OID)
    oid = body[start:position]
    critical = body[position] == BOOLEAN if position < end else False
    if critical:
        if not body.startswith(b"\x01\x01\xff", position):
            raise Malformed("criticality")
        position += 3
    start, stop = enter(body, position, end, OCTET_STRING)
    if stop != end:
        raise Malformed("something follows an extension's value")
    return oid, critical, body[start:stop]


@lru_cache(maxsize=1024)
def _decode_extension(body: bytes) -> Expected:
    """Return OID, criticality and decoded value of an extension.

    Cached for the extensions that repeat from certificate to certificate.
    """
    oid, critical, value = _read_extension(body)
    if oid == _AUTHORITY_KEY:
        start, end = enter_whole(value, SEQUENCE)
        start, stop = enter(value, start, end, 0x80)
        if stop != end:
            raise Malformed("authority key identifier")
        return oid, critical, value[start:stop]
    if oid == _KEY_USAGE:
        start, end = enter_whole(value, BIT_STRING)
        if end - start != 2 or not value[start + 1] or value[start] != _trailing_zeros(value[start + 1]):
            raise Malformed("key usage")
        return oid, critical, value[start + 1]
    if oid == _EXTENDED_KEY_USAGE:
        position, end = enter_whole(value, SEQUENCE)
        purposes = []
        while position < end:
            start, position = enter(value, position, end, OID)
            purposes.append(value[start:position])
        if len(set(purposes)) != len(purposes):
            raise Malformed("extended key usage")
        return oid, critical, frozenset(purposes)
    if oid == _BASIC_CONSTRAINTS:
        start, end = enter_whole(value, SEQUENCE)
        return oid, critical, value[start:end]
    if oid == _CRL_ADDRESS:
        return oid, critical, _only_address(value, (SEQUENCE, SEQUENCE, 0xA0, 0xA0, 0x86))
    if oid == _ACCESS:
        return oid, critical, _access_addresses(value)
    raise Malformed(f"extension {oid.hex()}")


def _access_addresses(value: bytes) -> tuple[str, ...]:
    """Return the OCSP and caIssuers addresses: exactly these two, in this order."""
    position, end = enter_whole(value, SEQUENCE)
    addresses = []
    for method in (_OCSP, _CA_ISSUERS):
        start, last = enter(value, position, end, SEQUENCE)
        begin, start = enter(value, start, last, OID)
        address, position = enter(value, start, last, 0x86)
        if position != last or value[begin:start] != method:
            raise Malformed("addresses of the responder and the issuer")
        addresses.append(value[address:position].decode("ascii", "replace"))
    if position != end:
        raise Malformed("more addresses than two")
    return tuple(addresses)


def _only_address(value: bytes, tags: tuple[int, ...]) -> str:
    """Follow nested elements, each of which must fill its parent, to the text in the innermost one."""
    start, end = 0, len(value)
    for tag in tags:
        start, stop = enter(value, start, end, tag)
        if stop != end:
            raise Malformed("address of the revocation list")
    return value[start:end].decode("ascii", "replace")


def _trailing_zeros(octet: int) -> int:
    return (octet & -octet).bit_length() - 1
