"""The material on disk: a directory for each set, and a link to the present one that is replaced atomically.

A program that opens `current/certificate.pem` and `current/key.pem` may meet a replacement between the two; one that reads
the link first and both files of that directory never does. Programs are told to read again after each replacement.
"""

import json
import os
import pwd
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from keyreeve.errors import FileUnusable, PeerMaterialWrong
from keyreeve.files import PRIVATE, PUBLIC, flush_directory
from keyreeve.keys import load_certificates
from keyreeve.membership_values import AuthorityUse, BundleAuthority, Epoch
from keyreeve.values import to_pem
from keyreeve_agent.material.values import Material

_KEPT = 2
"""Sets before the present one: a program that is just starting may still be reading them."""


@dataclass(frozen=True, slots=True)
class MaterialDirectory:
    """Sets of material in a directory; `owner` is the user whose programs read it, if not the agent's own."""

    path: Path
    owner: str | None = None

    @property
    def current(self) -> Path:
        """The link to the present set."""
        return self.path / "current"

    def read(self) -> Material | None:
        """The present set; None: there is none. Raises `PeerMaterialWrong`."""
        try:
            directory = self.current.resolve(strict=True)
        except OSError:
            return None
        try:
            facts = json.loads((directory / "epoch.json").read_bytes())
            certificates = load_certificates(directory / "certificate.pem")
            bundle = load_certificates(directory / "bundle.pem")
            crls = x509_crls((directory / "crl.pem").read_bytes())
            return _material(facts, certificates[0], bundle, crls, (directory / "key.pem").read_bytes())
        except (OSError, ValueError, KeyError, TypeError, IndexError) as failure:
            raise PeerMaterialWrong(f"the peer material in {directory} cannot be read: {failure}") from None

    def write(self, material: Material) -> Path:
        """Write a set and make it the present one. Raises `FileUnusable`; the former set is then still in place."""
        try:
            return self._write(material)
        except (OSError, KeyError) as failure:
            raise FileUnusable(f"cannot write the peer material in {self.path}: {failure}") from None

    def _write(self, material: Material) -> Path:
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        number = max((int(one.name) for one in self._sets()), default=0) + 1
        made, final = self.path / f".{number:08d}", self.path / f"{number:08d}"
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir(mode=0o700)
        certificate = to_pem([material.certificate_der]).encode()
        bundle = to_pem(sorted(one.certificate_der for one in material.epoch.authorities)).encode()
        crls = b"".join(x509.load_der_x509_crl(der).public_bytes(Encoding.PEM) for der in material.crls_der)
        self._put(made / "key.pem", material.key_pem, PRIVATE)
        self._put(made / "certificate.pem", certificate, PUBLIC)
        self._put(made / "combined.pem", certificate + material.key_pem, PRIVATE)
        self._put(made / "bundle.pem", bundle, PUBLIC)
        self._put(made / "crl.pem", crls, PUBLIC)
        self._put(made / "epoch.json", json.dumps(_facts(material), indent=1).encode(), PUBLIC)
        self._give(made)
        self._give(self.path)
        flush_directory(made)
        made.rename(final)
        link = self.path / ".current"
        link.unlink(missing_ok=True)
        link.symlink_to(final.name)
        link.rename(self.current)
        flush_directory(self.path)
        for old in self._sets()[: -_KEPT - 1]:
            shutil.rmtree(old, ignore_errors=True)
        return final

    def remove(self) -> None:
        """Delete all sets."""
        shutil.rmtree(self.path, ignore_errors=True)

    def _sets(self) -> list[Path]:
        return sorted(one for one in self.path.iterdir() if one.name.isdigit())

    def _put(self, path: Path, data: bytes, mode: int) -> None:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, PRIVATE)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        self._give(path)

    def _give(self, path: Path) -> None:
        if self.owner is not None:
            user = pwd.getpwnam(self.owner)
            os.chown(path, user.pw_uid, user.pw_gid)


def x509_crls(pem: bytes) -> tuple[bytes, ...]:
    """The CRLs of a PEM file, as DER."""
    end = b"-----END X509 CRL-----"
    parts = [part.strip() + b"\n" + end + b"\n" for part in pem.split(end) if part.strip()]
    return tuple(x509.load_pem_x509_crl(part).public_bytes(Encoding.DER) for part in parts)


def _facts(material: Material) -> dict[str, Any]:
    epoch = material.epoch
    authorities = sorted(epoch.authorities, key=lambda one: one.certificate_der)
    return {
        "array": epoch.array,
        "restore_generation": epoch.restore_generation,
        "epoch": epoch.epoch,
        "digest": epoch.digest.hex(),
        "previous_digest": epoch.previous_digest.hex(),
        "authorities": [[one.name, one.use.value] for one in authorities],
        "rotation": epoch.rotation,
        "created_at": int(epoch.created_at.timestamp()),
        "authority": material.authority,
        "renew_at": material.renew_at,
    }


def _material(
    facts: dict[str, Any], certificate: bytes, bundle: list[bytes], crls: tuple[bytes, ...], key: bytes
) -> Material:
    authorities = tuple(
        BundleAuthority(str(name), der, AuthorityUse(use))
        for (name, use), der in zip(facts["authorities"], bundle, strict=True)
    )
    epoch = Epoch(
        str(facts["array"]),
        int(facts["restore_generation"]),
        int(facts["epoch"]),
        bytes.fromhex(facts["digest"]),
        bytes.fromhex(facts["previous_digest"]),
        authorities,
        str(facts["rotation"]),
        datetime.fromtimestamp(int(facts["created_at"]), UTC),
    )
    return Material(certificate, key, str(facts["authority"]), epoch, crls, int(facts["renew_at"]))
