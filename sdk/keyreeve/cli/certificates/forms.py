"""Forms of a certificate and its key that programs read."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from keyreeve.errors import FileUnusable
from keyreeve.files import PRIVATE, PUBLIC

if TYPE_CHECKING:
    from keyreeve.keys import PrivateKey


class FileForm(StrEnum):
    """Values of `--form`."""

    FULLCHAIN = "fullchain"
    LEAF = "leaf"
    CHAIN = "chain"
    ROOT = "root"
    DER = "der"
    COMBINED = "combined"
    PKCS12 = "pkcs12"
    PKCS8 = "pkcs8"


FILE_NAMES = {
    FileForm.FULLCHAIN: "fullchain.pem",
    FileForm.LEAF: "leaf.pem",
    FileForm.CHAIN: "chain.pem",
    FileForm.ROOT: "root.pem",
    FileForm.DER: "certificate.der",
    FileForm.COMBINED: "combined.pem",
    FileForm.PKCS12: "bundle.p12",
    FileForm.PKCS8: "key-encrypted.pem",
}
"""In the directory of `cert issue`."""
WITH_KEY = frozenset({FileForm.COMBINED, FileForm.PKCS12, FileForm.PKCS8})
WITH_PASSWORD = frozenset({FileForm.PKCS12, FileForm.PKCS8})
FORM_HELP = (
    "fullchain (certificate and chain), leaf, chain, root, der (the certificate), combined (HAProxy: certificate, chain, key), "
    "pkcs12 or pkcs8 (the encrypted key; both with --password-file)"
)


@dataclass(frozen=True, slots=True)
class Material:
    """What a form is made of; certificates in DER."""

    leaf: bytes
    chain: Sequence[bytes]
    """Without the root."""
    roots: Sequence[bytes] = ()
    """Roots of the bundle; the form `root` takes the one that signed the chain."""
    key: "PrivateKey | None" = None
    password: bytes | None = None
    name: str = ""


def check_form(form: FileForm, *, has_key: bool, has_password: bool) -> None:
    """Raise `FileUnusable` when a form needs a file that is missing."""
    if form in WITH_KEY and not has_key:
        raise FileUnusable(f"the form {form} contains the private key, which is not at hand here")
    if form in WITH_PASSWORD and not has_password:
        raise FileUnusable(f"the form {form} is encrypted: give its password in a file, --password-file FILE")


def mode_of(form: FileForm) -> int:
    """Return the mode of a file of this form."""
    return PRIVATE if form in WITH_KEY else PUBLIC


def render(form: FileForm, material: Material) -> bytes:
    """Return the contents of a file of this form. Raises `FileUnusable`."""
    from keyreeve.values import to_pem

    check_form(form, has_key=material.key is not None, has_password=material.password is not None)
    makers: dict[FileForm, Callable[[], bytes]] = {
        FileForm.DER: lambda: material.leaf,
        FileForm.FULLCHAIN: lambda: to_pem([material.leaf, *material.chain]).encode(),
        FileForm.LEAF: lambda: to_pem([material.leaf]).encode(),
        FileForm.CHAIN: lambda: to_pem(material.chain).encode(),
        FileForm.ROOT: lambda: to_pem([root_of([material.leaf, *material.chain][-1], material.roots)]).encode(),
        FileForm.COMBINED: lambda: (
            to_pem([material.leaf, *material.chain]).encode() + _key_pem(material, encrypted=False)
        ),
        FileForm.PKCS8: lambda: _key_pem(material, encrypted=True),
        FileForm.PKCS12: lambda: _pkcs12(material),
    }
    return makers[form]()


def _key_pem(material: Material, *, encrypted: bool) -> bytes:
    from cryptography.hazmat.primitives import serialization

    assert material.key is not None
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if encrypted:
        assert material.password is not None
        encryption = serialization.BestAvailableEncryption(material.password)
    return material.key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def _pkcs12(material: Material) -> bytes:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, pkcs12

    assert material.key is not None
    assert material.password is not None
    return pkcs12.serialize_key_and_certificates(
        material.name.encode(),
        material.key,
        x509.load_der_x509_certificate(material.leaf),
        [x509.load_der_x509_certificate(each) for each in material.chain],
        BestAvailableEncryption(material.password),
    )


def root_of(certificate: bytes, roots: Iterable[bytes]) -> bytes:
    """Return the root that signed a certificate, such as the end of a chain. Raises `FileUnusable`."""
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature

    last = x509.load_der_x509_certificate(certificate)
    for each in roots:
        root = x509.load_der_x509_certificate(each)
        if root.subject == last.issuer:
            try:
                last.verify_directly_issued_by(root)
            except (ValueError, TypeError, InvalidSignature):
                continue
            return each
    raise FileUnusable("none of the roots of the bundle has signed this certificate's chain")
