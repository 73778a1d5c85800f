"""A hardware key in this process: signs as OpenSSH's PROTOCOL.u2f, touched or not."""

import base64
import hashlib
from dataclasses import dataclass

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

ED25519 = "sk-ssh-ed25519@openssh.com"
P256 = "sk-ecdsa-sha2-nistp256@openssh.com"


def fields(*parts: bytes) -> bytes:
    """Encode each field after its length."""
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def positive(number: int) -> bytes:
    """An mpint of RFC 4251."""
    return number.to_bytes(number.bit_length() // 8 + 1, "big")


@dataclass(frozen=True)
class Device:
    """A key whose signature counter does not increase, like that of some devices."""

    key: ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey
    application: bytes = b"ssh:"

    @property
    def algorithm(self) -> str:
        return ED25519 if isinstance(self.key, ed25519.Ed25519PrivateKey) else P256

    @property
    def blob(self) -> bytes:
        if isinstance(self.key, ed25519.Ed25519PrivateKey):
            point = [self.key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)]
        else:
            point = [b"nistp256", self.key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)]
        return fields(self.algorithm.encode(), *point, self.application)

    @property
    def line(self) -> str:
        """The public key for an operator's record."""
        return f"{self.algorithm} {base64.b64encode(self.blob).decode()}"

    def sign(
        self, message: bytes, *, namespace: str = "keyreeve-renew-1", digest: str = "sha512", flags: int = 1
    ) -> bytes:
        """An SSHSIG over a message, without its armor."""
        hashed = hashlib.new(digest, message).digest()
        asked = b"SSHSIG" + fields(namespace.encode(), b"", digest.encode(), hashed)
        signature = self.signature(asked, flags=flags)
        version = (1).to_bytes(4, "big")
        return b"SSHSIG" + version + fields(self.blob, namespace.encode(), b"", digest.encode(), signature)

    def signature(self, message: bytes, *, flags: int = 1) -> bytes:
        """A signature over a message, as SSH sends it."""
        tail = bytes([flags]) + (7).to_bytes(4, "big")
        signed = hashlib.sha256(self.application).digest() + tail + hashlib.sha256(message).digest()
        if isinstance(self.key, ed25519.Ed25519PrivateKey):
            proper = self.key.sign(signed)
        else:
            made = self.key.sign(signed, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))
            proper = fields(*map(positive, decode_dss_signature(made)))
        return fields(self.algorithm.encode(), proper) + tail


def armored(signature: bytes) -> str:
    """Wrap a signature in PEM armor, as `ssh-keygen -Y sign` does."""
    text = base64.b64encode(signature).decode()
    lines = [text[i : i + 70] for i in range(0, len(text), 70)]
    return "\n".join(["-----BEGIN SSH SIGNATURE-----", *lines, "-----END SSH SIGNATURE-----", ""])
