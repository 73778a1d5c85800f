"""Values of key files: private keys, requests, certificates and bundles of a server."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from keyreeve.plaintext import Plaintext


@dataclass(frozen=True, slots=True)
class FileSpace:
    """The file space of a server of an array."""

    array: str
    """`arrays/{array}`, or its last part."""
    server: str
    """Peer DNS name."""


@dataclass(frozen=True, slots=True)
class KeyFile:
    """A file, without its contents."""

    name: str
    """`arrays/{array}/servers/{server}/files/{file}`."""
    size: int
    holds_private_key: bool
    used_by: tuple[str, ...]
    """Services of the server that it is assigned to."""
    version: int
    created_at: datetime
    updated_at: datetime

    @property
    def file(self) -> str:
        """The last part of the name."""
        return self.name.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class FileContents:
    """A file with its contents, which show as `***` and are read with `contents.reveal()`."""

    file: KeyFile
    contents: Plaintext


class FileKeyType(StrEnum):
    """Type of a key to make."""

    RSA2048 = "rsa2048"
    RSA3072 = "rsa3072"
    RSA4096 = "rsa4096"
    P256 = "p256"
    P384 = "p384"


@dataclass(frozen=True, slots=True)
class RequestAttributes:
    """Attributes of a subject; those that are empty are left out."""

    common_name: str
    organizational_unit: str = ""
    organization: str = ""
    locality: str = ""
    state: str = ""
    country: str = ""
    email_address: str = ""
    names: tuple[str, ...] = ()
    """Subject alternative names: DNS names, IP addresses, e-mail addresses."""


@dataclass(frozen=True, slots=True)
class MadeFiles:
    """Files that were made."""

    files: tuple[KeyFile, ...]
    kept_files: tuple[KeyFile, ...]
    """Replaced files, under the names that they are kept under."""
    warnings: tuple[str, ...]
    """What clients may refuse."""


@dataclass(frozen=True, slots=True)
class FileElement:
    """One element of a file."""

    kind: str
    encoding: str
    key_type: str
    spki_sha256: bytes
    subject: str
    issuer: str
    serial: str
    not_before: datetime | None
    not_after: datetime | None
    names: tuple[str, ...]
    is_ca: bool
    sha256: bytes


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a file contains."""

    file: KeyFile
    elements: tuple[FileElement, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Verification:
    """Whether a bundle asserts a certificate."""

    verified: bool
    chain: tuple[str, ...]
    problems: tuple[str, ...]
    warnings: tuple[str, ...]
