"""Files by which `keyreeve up` gives a service its enrollment token.

The supervisor and the service use the same names.
"""

from datetime import datetime
from pathlib import Path


def token_file(state_directory: Path) -> Path:
    """The enrollment token that a service finds when it starts.

    It removes the file once it is enrolled.
    """
    return state_directory / "enrollment-token"


def identity_directory(state_directory: Path) -> Path:
    """Where a service stores its key and certificate (`keyreeve.enrollee_files`)."""
    return state_directory / "identity"


def certificate_end(state_directory: Path) -> datetime | None:
    """When the certificate of a service expires.

    None when there is none that can be read.
    """
    from cryptography import x509

    from keyreeve.enrollee_files import EnrolleeFiles

    try:
        pem = EnrolleeFiles(identity_directory(state_directory)).certificate.read_bytes()
        return x509.load_pem_x509_certificates(pem)[0].not_valid_after_utc
    except (OSError, ValueError):
        return None


def needs_token(state_directory: Path, now: datetime) -> bool:
    """Whether a service has to enroll: it has no valid certificate.

    An expired certificate cannot be renewed.
    """
    end = certificate_end(state_directory)
    return end is None or now >= end
