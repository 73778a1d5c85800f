"""Keys locked with a passphrase, and PKCS#12: opened and made."""

import warnings
from dataclasses import dataclass

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import pkcs12

from keyreeve.errors import KeyFileUnreadable, KeyFileUnsuitable, PassphraseWrong
from keyreeve.plaintext import Plaintext
from keyreeve_credentials.key_documents.contents import load_certificates, load_private_key, spki
from keyreeve_credentials.key_documents.costs import check_costs
from keyreeve_credentials.key_documents.making import key_pem
from keyreeve_credentials.key_documents.matching import ordered

_ROUNDS = 100_000
"""Of the key derivation: about 40 ms."""


@dataclass(frozen=True, slots=True)
class Contents:
    """What a PKCS#12 contained."""

    key_pem: bytes
    certificate_pem: bytes
    bundle_pem: bytes
    """The other certificates: intermediates, then the root. May be empty."""

    def __repr__(self) -> str:
        return "Contents(***)"


def unlock_key(data: bytes, passphrase: Plaintext) -> bytes:
    """Return a locked key as PKCS#8 without a passphrase. Raises `PassphraseWrong`, `KeyFileUnreadable`."""
    check_costs(data)
    try:
        return key_pem(load_private_key(data, passphrase))
    except ValueError:
        raise PassphraseWrong("the passphrase does not open the key, or the file is damaged") from None


def convert_pkcs12(data: bytes, passphrase: Plaintext) -> Contents:
    """Take a PKCS#12 apart. Raises `PassphraseWrong`, `KeyFileUnreadable`, `KeyFileUnsuitable`."""
    check_costs(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # NSS writes BER: it is read, with a warning
            found = pkcs12.load_pkcs12(data, passphrase.reveal())
    except UnsupportedAlgorithm as failure:
        raise KeyFileUnreadable(f"the PKCS#12 cannot be read: {failure}") from None
    except ValueError:
        raise PassphraseWrong("the passphrase does not open the PKCS#12, or the file is damaged") from None
    others = [one.certificate for one in found.additional_certs]
    if found.key is None:
        raise KeyFileUnsuitable("the PKCS#12 contains no private key")
    own = None if found.cert is None else found.cert.certificate
    if own is None:
        own = next((one for one in others if spki(one.public_key()) == spki(found.key.public_key())), None)
    if own is None:
        raise KeyFileUnsuitable("the PKCS#12 contains no certificate for its key")
    chain = ordered([own, *(one for one in others if one != own)])
    pems = [one.public_bytes(serialization.Encoding.PEM) for one in chain]
    return Contents(key_pem(found.key), pems[0], b"".join(pems[1:]))


def export_pkcs12(
    key: bytes, certificate: bytes, bundle: bytes | None, passphrase: Plaintext, name: str, *, legacy: bool
) -> bytes:
    """Make a PKCS#12 that openssl, keytool and pk12util open.

    With `legacy`, in the algorithms that programs from before about 2018 know (3DES, SHA-1). Raises `KeyFileUnreadable`,
    `KeyFileUnsuitable`.
    """
    private = load_private_key(key)
    if not isinstance(
        private, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey
    ):
        raise KeyFileUnsuitable("a key of this type has no place in a PKCS#12")
    own, *others = load_certificates(certificate)
    if spki(private.public_key()) != spki(own.public_key()):
        raise KeyFileUnsuitable("the key and the certificate do not match")
    if not passphrase:
        raise KeyFileUnsuitable("a PKCS#12 needs a passphrase")
    if bundle is not None:
        others += load_certificates(bundle)
    chain = ordered([own, *(one for one in dict.fromkeys(others) if one != own)])[1:]
    return pkcs12.serialize_key_and_certificates(
        name.encode(), private, own, chain or None, _encryption(passphrase, legacy=legacy)
    )


def _encryption(passphrase: Plaintext, *, legacy: bool) -> serialization.KeySerializationEncryption:
    algorithm = pkcs12.PBES.PBESv1SHA1And3KeyTripleDESCBC if legacy else pkcs12.PBES.PBESv2SHA256AndAES256CBC
    digest = hashes.SHA1() if legacy else hashes.SHA256()  # noqa: S303 - what the old programs know
    builder = serialization.PrivateFormat.PKCS12.encryption_builder().kdf_rounds(_ROUNDS)
    return builder.key_cert_algorithm(algorithm).hmac_hash(digest).build(passphrase.reveal())
