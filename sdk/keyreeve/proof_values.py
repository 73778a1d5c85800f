"""Proofs with which a session of an operator is opened."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class CertificateProof:
    """Shows that the holder of an operator's certificate opens a session at one gateway at one time."""

    certificate_der: bytes
    nonce: bytes
    time: int
    """Seconds since 1970."""
    signature: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class SshProof:
    """What an SSH client signed to log in (RFC 4252 section 7)."""

    session_id: bytes
    """The exchange hash of the first key exchange."""
    user_name: str
    algorithm: str
    """Name of the public key algorithm in the request."""
    public_key: bytes
    """The key or certificate in the request."""
    signature: bytes = field(repr=False)
