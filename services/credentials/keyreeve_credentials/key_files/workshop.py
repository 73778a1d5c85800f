"""What is made of files: requests, certificates, PKCS#12; each from files of one space into the same."""

import asyncio
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from keyreeve.plaintext import Plaintext
from keyreeve_chassis.database.ports import Store
from keyreeve_credentials.key_documents.attributes import Attributes
from keyreeve_credentials.key_documents.containers import convert_pkcs12, export_pkcs12, unlock_key
from keyreeve_credentials.key_documents.contents import load_certificates, load_private_key, load_request
from keyreeve_credentials.key_documents.making import (
    SELF_SIGNED_DAYS,
    SIGNED_DAYS,
    KeyChoice,
    Terms,
    create_request,
    create_self_signed,
    sign_request,
)
from keyreeve_credentials.key_files.file_names import BUNDLE, CERTIFICATE, KEY, REQUEST, basename_of
from keyreeve_credentials.key_files.ports import KeyFileTransaction, Space, StoredFile
from keyreeve_credentials.key_files.service import KeyFiles

_SERIAL_BITS = 159


def random_serial() -> int:
    """Make a serial number of 159 bits, at least 1."""
    return secrets.randbits(_SERIAL_BITS) | 1


@dataclass(frozen=True)
class NewFiles:
    """Contents by name, ready to be stored."""

    contents: dict[str, Plaintext]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Workshop:
    """Makes the contents of new files; slow work runs in threads, before the transaction that stores them."""

    files: KeyFiles
    store: Store[Any]
    now: Callable[[], int]
    serial: Callable[[], int] = random_serial

    async def request(self, basename: str, attributes: Attributes, choice: KeyChoice) -> NewFiles:
        """Make a key and a request. Raises `FieldInvalid`."""
        made = await asyncio.to_thread(create_request, attributes, choice)
        return NewFiles(_named(basename, made.key_pem, REQUEST, made.document_pem), made.warnings)

    async def self_signed(self, basename: str, attributes: Attributes, choice: KeyChoice, days: int) -> NewFiles:
        """Make a key and a certificate that it signs. Raises `FieldInvalid`."""
        terms = self._terms(days or SELF_SIGNED_DAYS)
        made = await asyncio.to_thread(create_self_signed, attributes, choice, terms)
        return NewFiles(_named(basename, made.key_pem, CERTIFICATE, made.document_pem), made.warnings)

    async def signed(self, space: Space, basename: str, ca_basename: str, days: int) -> NewFiles:
        """Sign a request with a CA's files. Raises `KeyFileNotFound`, `KeyFileUnreadable`, `KeyFileUnsuitable`."""
        request, certificate, key = await self._read(
            space, f"{basename}{REQUEST}", f"{ca_basename}{CERTIFICATE}", f"{ca_basename}{KEY}"
        )
        terms = self._terms(days or SIGNED_DAYS)

        def sign() -> bytes:
            ca = load_certificates(certificate)[0]
            return sign_request(load_request(request), ca, load_private_key(key), terms)

        return NewFiles({f"{basename}{CERTIFICATE}": Plaintext(await asyncio.to_thread(sign))})

    async def unlocked(self, space: Space, name: str, passphrase: Plaintext) -> Plaintext:
        """Open a locked key. Raises `KeyFileNotFound`, `KeyFileUnreadable`, `PassphraseWrong`."""
        (data,) = await self._read(space, name)
        return Plaintext(await asyncio.to_thread(unlock_key, data, passphrase))

    async def converted(self, space: Space, name: str, passphrase: Plaintext, basename: str) -> NewFiles:
        """Take a PKCS#12 apart. Raises as `unlocked`, and `KeyFileUnsuitable`."""
        (data,) = await self._read(space, name)
        found = await asyncio.to_thread(convert_pkcs12, data, passphrase)
        contents = _named(basename, found.key_pem, CERTIFICATE, found.certificate_pem)
        if found.bundle_pem:
            contents[f"{basename}{BUNDLE}"] = Plaintext(found.bundle_pem)
        return NewFiles(contents)

    async def exported(
        self,
        space: Space,
        sources: tuple[str, str, str],
        target: str,
        passphrase: Plaintext,
        alias: str,
        *,
        legacy: bool,
    ) -> NewFiles:
        """Make a PKCS#12 of a key, a certificate and a bundle (its name may be empty).

        Raises `KeyFileNotFound`, `KeyFileUnreadable`, `KeyFileUnsuitable`.
        """
        key_name, certificate_name, bundle_name = sources
        read = await self._read(space, *(name for name in (key_name, certificate_name, bundle_name) if name))
        key, certificate, *bundle = read

        def export() -> bytes:
            more = bundle[0] if bundle else None
            return export_pkcs12(key, certificate, more, passphrase, alias or basename_of(key_name), legacy=legacy)

        return NewFiles({target: Plaintext(await asyncio.to_thread(export))})

    async def opened(self, space: Space, name: str) -> tuple[StoredFile, bytes, Mapping[str, Sequence[str]]]:
        """Return a file, its contents, and what uses which file of the space. Raises as `KeyFiles.read`."""

        def read(tx: KeyFileTransaction) -> tuple[StoredFile, bytes, Mapping[str, Sequence[str]]]:
            stored = self.files.get(tx, space, name)
            return stored, self.files.open(stored).reveal(), tx.key_files.uses(space)

        found: tuple[StoredFile, bytes, Mapping[str, Sequence[str]]] = await self.store.read(read)
        return found

    def now_time(self) -> datetime:
        """The present time."""
        return datetime.fromtimestamp(self.now(), UTC)

    async def _read(self, space: Space, *names: str) -> list[bytes]:
        def read(tx: KeyFileTransaction) -> list[bytes]:
            return [self.files.read(tx, space, name) for name in names]

        found: list[bytes] = await self.store.read(read)
        return found

    def _terms(self, days: int) -> Terms:
        return Terms(self.now_time(), days, self.serial)


def _named(basename: str, key: bytes, extension: str, document: bytes) -> dict[str, Plaintext]:
    return {f"{basename}{KEY}": Plaintext(key), f"{basename}{extension}": Plaintext(document)}
