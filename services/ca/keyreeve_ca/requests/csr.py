"""Parse a certificate request (PKCS #10, RFC 2986), cheapest checks first, and verify proof of possession.

Every octet of the request is read here, as strict DER, before any other parser or any arithmetic sees one: the names
that policy checks are exactly those in the signed bytes. One rule of DER is not enforced: the order of a SET's members,
which common programs get wrong. Parts that decide nothing, such as the text of a subject attribute, may be unreadable:
`left_out` tells them, and `strict_refusal` is the refusal of profiles with `requests: strict`.
"""

from dataclasses import dataclass, field
from hashlib import sha256
from ipaddress import ip_address

from keyreeve.errors import CsrMalformed, CsrTooLarge, ExtensionRefused, KeyreeveError, SubjectRefused, TooManyNames
from keyreeve.request_container import request_der
from keyreeve.values import Name, NameType
from keyreeve_ca.requests import der_reader as der
from keyreeve_ca.requests.key_rules import ACCEPTED_ALGORITHMS, PublicKey, check_signature, classify_key, load_key
from keyreeve_ca.requests.requested_extensions import (
    NO_REQUESTED_EXTENSIONS,
    RequestedExtensions,
    read_requested_extensions,
)
from keyreeve_chassis.keys.key_types import KeyType

MAX_DER_BYTES = 16 * 1024
MAX_PEM_BYTES = 24 * 1024
MAX_ATTRIBUTES = 8
MAX_EXTENSIONS = 16
MAX_SUBJECT_ATTRIBUTES = 16
MAX_NAMES = 400
"""More than any profile allows; a guard that needs no profile."""

COMMON_NAME = "2.5.4.3"
_CN = bytes.fromhex("550403")

_VERSION_0 = b"\x02\x01\x00"
_EXTENSION_REQUEST = bytes.fromhex("2a864886f70d01090e")
_EXTENSION_REQUEST_MICROSOFT = bytes.fromhex("2b06010401823702010e")
_SUBJECT_ALTERNATIVE_NAME = bytes.fromhex("551d11")
_TEXT_TAGS = {0x0C: "utf-8", 0x13: "ascii", 0x16: "ascii"}
"""UTF8String, PrintableString, IA5String."""
_OLD_TEXT_TAGS = {0x12: "ascii", 0x14: "latin-1", 0x1C: "utf-32-be", 0x1E: "utf-16-be"}
"""NumericString, TeletexString (Latin-1 in practice), UniversalString, BMPString."""
_NAME_TAGS = {0x81: NameType.EMAIL, 0x82: NameType.DNS, 0x86: NameType.URI}
_IP_TAG = 0x87
_OTHER_NAMES = {
    0xA0: "an otherName",
    0xA3: "an X.400 address",
    0xA4: "a directory name",
    0xA5: "an EDI party name",
    0x88: "a registered ID",
}


# Names of the attribute types that requests contain, as OpenSSL prints them.
_ATTRIBUTES = {
    "2.5.4.3": "CN",
    "2.5.4.4": "SN",
    "2.5.4.5": "serialNumber",
    "2.5.4.6": "C",
    "2.5.4.7": "L",
    "2.5.4.8": "ST",
    "2.5.4.9": "street",
    "2.5.4.10": "O",
    "2.5.4.11": "OU",
    "2.5.4.12": "title",
    "2.5.4.13": "description",
    "2.5.4.17": "postalCode",
    "2.5.4.20": "telephoneNumber",
    "2.5.4.41": "name",
    "2.5.4.42": "GN",
    "2.5.4.45": "x500UniqueIdentifier",
    "2.5.4.46": "dnQualifier",
    "2.5.4.65": "pseudonym",
    "0.9.2342.19200300.100.1.1": "UID",
    "0.9.2342.19200300.100.1.25": "DC",
    "1.2.840.113549.1.9.1": "emailAddress",
    "1.2.840.113549.1.9.2": "unstructuredName",
    "1.2.840.113549.1.9.7": "challengePassword",
    "1.2.840.113549.1.9.8": "unstructuredAddress",
    "1.2.840.113549.1.9.20": "friendlyName",
    "1.2.840.113549.1.9.21": "localKeyID",
    "1.3.6.1.4.1.311.13.2.2": "Microsoft enrollment CSP",
    "1.3.6.1.4.1.311.13.2.3": "Microsoft OS version",
    "1.3.6.1.4.1.311.21.20": "Microsoft client information",
}


@dataclass(frozen=True, slots=True)
class CertificateRequest:
    """A parsed request: well-formed, with a key of a known type; nothing in it is verified or granted yet."""

    der: bytes = field(repr=False)
    spki: bytes = field(repr=False)
    """DER SubjectPublicKeyInfo, byte for byte."""
    spki_sha256: bytes = field(repr=False)
    key_type: KeyType
    public_key: PublicKey = field(repr=False, compare=False)
    subject: tuple[tuple[str, str], ...]
    """(OID in dotted form, text) of each attribute that can be read, in order."""
    names: tuple[Name, ...]
    """Requested subject alternative names, in order, not yet checked against any grammar."""
    unusable_names: tuple[tuple[int, str], ...]
    """(Position, problem) of the requested names of types that are not issued; they are not in `names`."""
    requested_extensions: RequestedExtensions
    """The other extensions that it asks for."""
    signed: bytes = field(repr=False)
    """DER CertificationRequestInfo: what the signature is over."""
    signature_algorithm: bytes = field(repr=False)
    """DER AlgorithmIdentifier."""
    signature: bytes = field(repr=False)
    left_out: tuple[str, ...] = ()
    """Parts that have no effect whatever the profile is, each as `field: description`."""
    strict_refusal: KeyreeveError | None = field(default=None, compare=False)
    """Why a profile with `requests: strict` refuses the request; None: its encoding is strict."""


@dataclass(slots=True)
class _Notes:
    """What the reader leaves out, and the first reason of strict profiles to refuse it."""

    left_out: list[str] = field(default_factory=list)
    refusal: KeyreeveError | None = None

    def leave_out(self, what: str, refusal: KeyreeveError | None = None) -> None:
        self.left_out.append(what)
        self.tolerate(refusal)

    def tolerate(self, refusal: KeyreeveError | None) -> None:
        self.refusal = self.refusal or refusal


def read_csr(data: bytes) -> CertificateRequest:
    """Read a request in DER, or the only one of a file (`keyreeve.request_container`).

    Raises `CsrTooLarge`, `CsrMalformed`, `KeyTypeRefused`, `KeyWeak` or `TooManyNames`. The signature has not been
    checked: see `check_possession`.
    """
    _check_size(data, MAX_DER_BYTES if data.startswith(b"\x30") else MAX_PEM_BYTES)
    try:
        return _read_der(data)
    except CsrMalformed:
        contained = request_der(data)  # or what the file is instead
        if contained == data:
            raise
    _check_size(contained, MAX_DER_BYTES)
    return _read_der(contained)


def _read_der(data: bytes) -> CertificateRequest:
    end = len(data)
    notes = _Notes()
    start, stop = der.expect(data, 0, end, der.SEQUENCE, "the request")
    if stop != end:
        raise CsrMalformed(f"the request is followed by {end - stop} other bytes")
    info, info_end = der.expect(data, start, end, der.SEQUENCE, "the request's content")
    algorithm, algorithm_end = der.expect(data, info_end, end, der.SEQUENCE, "the signature's algorithm")
    signature, signature_end = der.expect(data, algorithm_end, end, der.BIT_STRING, "the signature")
    if signature_end != end or signature_end - signature < 2 or data[signature] != 0:
        raise CsrMalformed("the signature is not one bit string of whole octets at the end of the request")
    if data[info_end:algorithm_end] not in ACCEPTED_ALGORITHMS:
        der.check_whole(data, algorithm, algorithm_end, "the signature's algorithm")

    if not data.startswith(_VERSION_0, info):
        raise CsrMalformed("the request's version is not 0, the only one there is (RFC 2986)")
    subject, subject_end = der.expect(data, info + 3, info_end, der.SEQUENCE, "the subject")
    _, key_end = der.expect(data, subject_end, info_end, der.SEQUENCE, "the public key")
    if key_end == info_end:
        attributes = attributes_end = info_end
        notes.tolerate(CsrMalformed("the attributes are missing (RFC 2986)"))
    else:
        attributes, attributes_end = der.expect(data, key_end, info_end, 0xA0, "the attributes")
    if attributes_end != info_end:
        raise CsrMalformed("the attributes are followed by other bytes")
    spki = data[subject_end:key_end]
    key_type = classify_key(spki)
    extensions = _read_attributes(data, attributes, attributes_end, notes)
    alternative_name = extensions.pop(_SUBJECT_ALTERNATIVE_NAME, None) if extensions else None
    names, unusable = _read_names(data, *alternative_name) if alternative_name else ((), ())
    attribute_texts = _read_subject(data, subject, subject_end, notes) if subject != subject_end else ()
    requested = read_requested_extensions(data, extensions) if extensions else NO_REQUESTED_EXTENSIONS
    for what in requested.unreadable:
        notes.leave_out(f"csr.extensions: {what}", CsrMalformed(what))
    notes.tolerate(requested.strict_refusal)
    return CertificateRequest(
        der=data,
        spki=spki,
        spki_sha256=sha256(spki).digest(),
        key_type=key_type,
        public_key=load_key(spki),
        subject=attribute_texts,
        names=names,
        unusable_names=unusable,
        requested_extensions=requested,
        signed=data[start:info_end],
        signature_algorithm=data[info_end:algorithm_end],
        signature=data[signature + 1 : signature_end],
        left_out=tuple(notes.left_out),
        strict_refusal=notes.refusal,
    )


def check_possession(request: CertificateRequest) -> None:
    """Verify that the request is signed by the key it contains (RFC 2986, section 3).

    Raises `CsrSignatureInvalid`. It is the one expensive step, so it comes after all cheap refusals.
    """
    check_signature(request.public_key, request.signature_algorithm, request.signature, request.signed)


def _check_size(data: bytes, most: int) -> None:
    if len(data) > most:
        raise CsrTooLarge(
            f"the request has {len(data)} bytes; at most {MAX_DER_BYTES} in DER or {MAX_PEM_BYTES} in PEM are read",
            metadata={"max_bytes": str(MAX_DER_BYTES)},
        )


def _read_subject(data: bytes, at: int, end: int, notes: _Notes) -> tuple[tuple[str, str], ...]:
    attributes: list[tuple[str, str]] = []
    count = 0
    while at < end:
        member, at = der.expect(data, at, end, der.SET, "a part of the subject")
        if member == at:
            raise CsrMalformed("a part of the subject is empty")
        while member < at:
            start, member = der.expect(data, member, at, der.SEQUENCE, "an attribute of the subject")
            oid_start, oid_end = der.expect(
                data, start, member, der.OBJECT_IDENTIFIER, "the type of a subject attribute"
            )
            tag, text_start, text_end = der.element(data, oid_end, member, "the value of a subject attribute")
            if text_end != member:
                raise CsrMalformed("an attribute of the subject holds more than a type and a value")
            oid_octets = data[oid_start:oid_end]
            oid = COMMON_NAME if oid_octets == _CN else der.oid_text(oid_octets, "the type of a subject attribute")
            if count == MAX_SUBJECT_ATTRIBUTES:
                raise CsrMalformed(f"the subject has more than {MAX_SUBJECT_ATTRIBUTES} attributes")
            text = _text(tag, data[text_start:text_end], oid, count, notes)
            if text is not None:
                attributes.append((oid, text))
            count += 1
    return tuple(attributes)


def _text(tag: int, content: bytes, oid: str, position: int, notes: _Notes) -> str | None:
    """Decode an attribute of the subject; None when it cannot be shown, and then it is left out."""
    field_name = f"csr.subject[{position}]: {attribute_name(oid)}"
    encoding = _TEXT_TAGS.get(tag)
    if encoding is None:
        refusal: KeyreeveError = SubjectRefused(
            f"the subject's attribute {oid} is a string of type 0x{tag:02x}; UTF8String, PrintableString and IA5String are read"
        )
        notes.tolerate(refusal)
        encoding = _OLD_TEXT_TAGS.get(tag)
        if encoding is None:
            notes.leave_out(f"{field_name} is no string", refusal)
            return None
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError:
        refusal = CsrMalformed(f"the subject's attribute {oid} is not valid {encoding}")
        notes.leave_out(f"{field_name} cannot be read", refusal)
        return None
    if not text.isprintable():
        refusal = SubjectRefused(f"the subject's attribute {oid} holds a control character")
        notes.leave_out(f"{field_name} holds a control character", refusal)
        return None
    return text


def _read_attributes(data: bytes, at: int, end: int, notes: _Notes) -> dict[bytes, tuple[int, int]]:
    """Read the attributes; return OID -> location of the value, of each requested extension.

    Other attributes (a challenge password, what Windows adds) have no effect; they are only checked to be DER.
    """
    extensions: dict[bytes, tuple[int, int]] = {}
    of_microsoft: tuple[int, int] | None = None
    seen: set[bytes] = set()
    while at < end:
        start, at = der.expect(data, at, end, der.SEQUENCE, "an attribute")
        oid_start, oid_end = der.expect(data, start, at, der.OBJECT_IDENTIFIER, "an attribute's type")
        oid = data[oid_start:oid_end]
        values, values_end = der.expect(data, oid_end, at, der.SET, "an attribute's values")
        if oid in seen or len(seen) == MAX_ATTRIBUTES:
            raise CsrMalformed(f"an attribute stands twice, or there are more than {MAX_ATTRIBUTES}")
        seen.add(oid)
        if oid in {_EXTENSION_REQUEST, _EXTENSION_REQUEST_MICROSOFT}:
            der.expect(data, values, values_end, der.SEQUENCE, "the list of extensions")
            _, value, value_end = der.element(data, values, values_end, "an attribute's value")
            if values_end != at or value_end != values_end:
                raise CsrMalformed("the list of extensions has more than one value")
            if oid == _EXTENSION_REQUEST:
                extensions = _read_extensions(data, value, value_end, notes)
            else:
                of_microsoft = (value, value_end)
        else:
            _leave_out_attribute(data, der.oid_text(oid, "an attribute's type"), (values, values_end, at), notes)
    if of_microsoft is not None:
        notes.tolerate(
            ExtensionRefused(
                "extensions are asked for in Microsoft's attribute in place of extensionRequest (RFC 2985)"
            )
        )
        if _EXTENSION_REQUEST in seen:
            notes.leave_out("csr.attributes: extensions in Microsoft's attribute beside extensionRequest")
        else:
            extensions = _read_extensions(data, *of_microsoft, notes)
    return extensions


def _leave_out_attribute(data: bytes, oid: str, span: tuple[int, int, int], notes: _Notes) -> None:
    values, values_end, end = span
    der.check_whole(data, values, values_end, "an attribute's value")
    # The value is not told: a challenge password is a secret.
    notes.leave_out(f"csr.attributes: {attribute_name(oid)}")
    one = 0
    if values != values_end:
        _, _, one = der.element(data, values, values_end, "an attribute's value")
    if values_end != end or one != values_end:
        notes.tolerate(CsrMalformed("an attribute has more than one value"))


def _read_extensions(data: bytes, at: int, end: int, notes: _Notes) -> dict[bytes, tuple[int, int]]:
    extensions: dict[bytes, tuple[int, int]] = {}
    if at == end:
        notes.tolerate(CsrMalformed("the list of extensions is empty"))
    while at < end:
        start, at = der.expect(data, at, end, der.SEQUENCE, "an extension")
        oid_start, value_at = der.expect(data, start, at, der.OBJECT_IDENTIFIER, "an extension's type")
        oid = data[oid_start:value_at]
        if data[value_at : value_at + 1] == b"\x01":
            if data[value_at : value_at + 2] != b"\x01\x01":
                raise CsrMalformed("an extension's critical flag is not one octet")
            if data[value_at + 2 : value_at + 3] != b"\xff":
                notes.tolerate(
                    CsrMalformed("an extension's critical flag is not in DER: TRUE is 0xff, FALSE is left out")
                )
            value_at += 3
        value, value_end = der.expect(data, value_at, at, der.OCTET_STRING, "an extension's value")
        if value_end != at:
            raise CsrMalformed("an extension's value is followed by other bytes")
        if oid in extensions:
            raise CsrMalformed(f"the extension {der.oid_text(oid, 'its type')} is asked for twice")
        if len(extensions) == MAX_EXTENSIONS:
            raise CsrMalformed(f"more than {MAX_EXTENSIONS} extensions are asked for")
        extensions[oid] = (value, value_end)
    return extensions


def _read_names(data: bytes, at: int, end: int) -> tuple[tuple[Name, ...], tuple[tuple[int, str], ...]]:
    start, stop = der.expect(data, at, end, der.SEQUENCE, "the subject alternative name")
    if stop != end or start == stop:
        raise CsrMalformed("the subject alternative name is empty, or followed by other bytes")
    names: list[Name] = []
    unusable: list[tuple[int, str]] = []
    position = 0
    while start < stop:
        if position == MAX_NAMES:
            raise TooManyNames(
                f"the request asks for more than {MAX_NAMES} names", metadata={"max_names": str(MAX_NAMES)}
            )
        tag, value, start = der.element(data, start, stop, "a subject alternative name")
        if tag in _NAME_TAGS:
            # Octets beyond ASCII become characters beyond ASCII, which no grammar accepts, and the error can show them.
            names.append(Name(_NAME_TAGS[tag], data[value:start].decode("latin-1")))
        elif tag == _IP_TAG and start - value in {4, 16}:
            names.append(Name(NameType.IP, str(ip_address(data[value:start]))))
        elif tag == _IP_TAG:
            unusable.append((position, f"an IP address has 4 or 16 octets, and this one has {start - value}"))
        elif tag in _OTHER_NAMES:
            if tag & 0x20:
                der.check_whole(data, value, start, "a subject alternative name")
            unusable.append((position, f"{_OTHER_NAMES[tag]} is a type of name that no profile allows"))
        else:
            raise CsrMalformed(f"a subject alternative name has tag 0x{tag:02x}, which RFC 5280 does not have")
        position += 1
    return tuple(names), tuple(unusable)


def attribute_name(oid: str) -> str:
    """Return an attribute type as name and OID, or its OID alone."""
    return f"{_ATTRIBUTES[oid]} ({oid})" if oid in _ATTRIBUTES else oid
