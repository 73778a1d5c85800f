"""What files of certificates, requests, CRLs and keys contain, also where a part of it cannot be read."""

import base64
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from keyreeve.cli.certificates.certificate_files import describe, key_text, names_in, read_input, readable, text_of
from keyreeve.errors import FileUnusable

_PEM = re.compile(rb"-----BEGIN ([^\r\n-]{1,64})-----(.*?)-----END [^\r\n-]{1,64}-----", re.DOTALL)
_CERTIFICATES = {b"CERTIFICATE", b"X509 CERTIFICATE", b"TRUSTED CERTIFICATE"}
_REQUESTS = {b"CERTIFICATE REQUEST", b"NEW CERTIFICATE REQUEST"}

_X509_KINDS = {"a certificate": "certificate", "a certificate revocation list": "CRL"}

Document = dict[str, Any]


def inspect_file(path: Path, password: bytes | None = None) -> list[Document]:
    """Return the contents of a file as plain values, one document for each object.

    Raises `FileUnusable` when nothing in it is known.
    """
    from keyreeve.request_container import as_ascii

    data = read_input(path)
    text = data if data[:1] == b"\x30" else as_ascii(data)
    found = list(_pem_documents(text)) if b"-----BEGIN" in text else list(_der_documents(data, text, password))
    if not found:
        raise FileUnusable(f"{path} contains no certificate, request, CRL or key")
    return found


def _pem_documents(text: bytes) -> Iterator[Document]:
    for label, body in _PEM.findall(text):
        try:
            der = base64.b64decode(b"".join(_without_headers(body).split()), validate=True)
        except ValueError:
            yield {"kind": text_of(label.decode("latin-1")), "problem": "it is not base64"}
            continue
        if label in _CERTIFICATES:
            yield _certificate(der)
        elif label in _REQUESTS:
            yield _request(der)
        elif label == b"X509 CRL":
            yield _crl(der)
        elif label in {b"PKCS7", b"CMS"}:
            try:
                yield from _pkcs7(der)
            except ValueError as problem:
                yield {"kind": "PKCS #7", "problem": f"cannot be read: {_line(problem)}"}
        else:
            yield {"kind": text_of(label.decode("latin-1").lower()), "bytes": len(der)}


def _without_headers(body: bytes) -> bytes:
    return b"\n".join(line for line in body.splitlines() if b":" not in line)


def _der_documents(data: bytes, text: bytes, password: bytes | None) -> Iterator[Document]:
    from keyreeve.request_container import kind_of_der

    if data[:1] != b"\x30":
        try:
            data = base64.b64decode(b"".join(text.split()), validate=True)
        except ValueError:
            return
    refused = {}
    for read in (_certificate, _request, _crl):
        document = read(data)
        if "problem" not in document:
            yield document
            return
        refused[document["kind"]] = document
    if (kind := _X509_KINDS.get(kind_of_der(data))) is not None:
        yield refused[kind]
        return
    try:
        yield from _pkcs7(data)
    except ValueError:
        yield from _pkcs12(data, password)


def _certificate(der: bytes) -> Document:
    from cryptography import x509

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return {"kind": "certificate"} | describe(x509.load_der_x509_certificate(der))
    except ValueError as problem:
        return {"kind": "certificate", "problem": f"cannot be read: {_line(problem)}"}


def _request(der: bytes) -> Document:
    from cryptography import x509

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            request = x509.load_der_x509_csr(der)
            return {
                "kind": "certificate request",
                "subject": readable(lambda: text_of(request.subject.rfc4514_string()) or "(empty)"),
                "names": readable(lambda: names_in(request.extensions)),
                "key": readable(lambda: key_text(request.public_key())),
                "extensions": readable(lambda: [text_of(each.oid._name) for each in request.extensions]),  # noqa: SLF001
                "signature": readable(lambda: "valid" if request.is_signature_valid else "not valid"),
            }
    except ValueError as problem:
        return {"kind": "certificate request", "problem": f"cannot be read: {_line(problem)}"}


def _crl(der: bytes) -> Document:
    from cryptography import x509

    try:
        found = x509.load_der_x509_crl(der)
    except ValueError as problem:
        return {"kind": "CRL", "problem": f"cannot be read: {_line(problem)}"}

    def number() -> str:
        return str(found.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number)

    return {
        "kind": "CRL",
        "issuer": readable(lambda: text_of(found.issuer.rfc4514_string())),
        "number": readable(number),
        "this_update": readable(found.last_update_utc.isoformat),
        "next_update": readable(lambda: found.next_update_utc.isoformat() if found.next_update_utc else "none"),
        "entries": readable(lambda: len(found)),
    }


def _pkcs7(der: bytes) -> Iterator[Document]:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            inside = pkcs7.load_der_pkcs7_certificates(der)
    except UnsupportedAlgorithm as problem:
        raise ValueError(str(problem)) from None
    yield {"kind": "PKCS #7", "certificates": len(inside)}
    for each in inside:
        yield _certificate(each.public_bytes(Encoding.DER))


def _pkcs12(data: bytes, password: bytes | None) -> Iterator[Document]:
    from cryptography.hazmat.primitives.serialization import Encoding, pkcs12

    from keyreeve.request_container import kind_of_der

    kind = kind_of_der(data)
    if not kind.startswith("a PKCS #12"):
        if kind:
            yield {"kind": kind.removeprefix("a ").partition(",")[0]}
        return
    try:
        found = pkcs12.load_pkcs12(data, password)
    except ValueError:
        what = "another password" if password else "a password, --password-file FILE"
        yield {"kind": "PKCS #12 (PFX)", "problem": f"it opens with {what}"}
        return
    yield {"kind": "PKCS #12 (PFX)", "private_key": found.key is not None}
    every = ([found.cert] if found.cert else []) + list(found.additional_certs)
    for each in every:
        yield _certificate(each.certificate.public_bytes(Encoding.DER))


def _line(problem: Exception) -> str:
    return text_of(str(problem).splitlines()[0][:200]) if str(problem) else type(problem).__name__


def serials_in(path: Path) -> list[str]:
    """Return the serial numbers of the certificates in a file. Raises `FileUnusable`."""
    found = [str(each["serial"]) for each in inspect_file(path) if each["kind"] == "certificate" and "serial" in each]
    if not found:
        raise FileUnusable(f"{path} contains no certificate")
    return found
