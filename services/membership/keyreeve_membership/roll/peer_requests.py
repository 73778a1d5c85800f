"""Rules for requests for peer certificates; no I/O."""

from cryptography import x509
from cryptography.x509.oid import NameOID

from keyreeve.errors import CsrMalformed, NameRefused


def check_peer_request(csr: bytes, member: str) -> None:
    """Check that a request is for the peer DNS name alone.

    Raises `CsrMalformed`, `NameRefused`. The CA checks the rest: keys, signature, extensions.
    """
    try:
        request = x509.load_pem_x509_csr(csr) if csr.lstrip().startswith(b"-----") else x509.load_der_x509_csr(csr)
        subject = [(one.oid, one.value) for one in request.subject]
        names = _alternative_names(request)
    except ValueError as failure:
        raise CsrMalformed(f"csr: not a PKCS #10 request: {failure}") from None
    if subject != [(NameOID.COMMON_NAME, member)] or not names <= {member}:
        raise NameRefused(f"csr: the common name and the only DNS name have to be {member}", metadata={"name": member})


def _alternative_names(request: x509.CertificateSigningRequest) -> set[str]:
    try:
        found = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set()
    return {str(one.value) for one in found}
