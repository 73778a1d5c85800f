"""Signers of an authority's key: certificates after their final check, and CRLs.

A raw `keyreeve_chassis.keys.ports.Signer` signs any bytes, so an authority's key is wrapped where it is opened. Other
keys (OCSP responders, audit checkpoints, the caller feed) stay raw: no relying party accepts a certificate signed by
them.
"""

from dataclasses import dataclass, field
from typing import NoReturn, Self

from keyreeve.errors import FinalCheckFailed
from keyreeve_ca.certificates.final_reading import INTEGER, SEQUENCE, Malformed, enter, enter_whole
from keyreeve_chassis.keys.key_types import KeyType
from keyreeve_chassis.keys.ports import Signer


class CheckedTbs:
    """A TBSCertificate that has passed its final check; it can be signed once. Only the final checks make one."""

    __slots__ = ("_tbs",)
    _tbs: bytes | None

    def __new__(cls) -> Self:
        """Raise `TypeError`; this also refuses copies and unpickling."""
        raise TypeError("only a final check makes a CheckedTbs")

    def __init_subclass__(cls) -> NoReturn:
        raise TypeError("CheckedTbs has no subclasses")

    def take(self) -> bytes:
        """Return the bytes for their one signature. Raises `FinalCheckFailed` from the second time on."""
        tbs, self._tbs = self._tbs, None
        if tbs is None:
            raise FinalCheckFailed("the TBSCertificate has been signed already")
        return tbs


def mark_checked(tbs: bytes) -> CheckedTbs:
    """Make a `CheckedTbs`. For the last line of a final check, and nowhere else."""
    checked = object.__new__(CheckedTbs)
    checked._tbs = tbs  # this is its constructor
    return checked


@dataclass(frozen=True, slots=True)
class IssuingSigner:
    """An authority's key for signing certificates, each after its final check."""

    _key: Signer = field(repr=False)

    @property
    def key_type(self) -> KeyType:
        """Of the key."""
        return self._key.key_type

    @property
    def spki(self) -> bytes:
        """DER SubjectPublicKeyInfo."""
        return self._key.spki

    def sign(self, checked: CheckedTbs) -> bytes:
        """Sign a checked TBSCertificate, once. Raises `FinalCheckFailed`, `KeyStoreError`."""
        if type(checked) is not CheckedTbs:
            raise TypeError("only a CheckedTbs is signed as a certificate")
        return self._key.sign(checked.take())


@dataclass(frozen=True, slots=True)
class CrlSigner:
    """An authority's key for signing its CRLs."""

    _key: Signer = field(repr=False)

    @property
    def key_type(self) -> KeyType:
        """Of the key."""
        return self._key.key_type

    def sign(self, tbs_cert_list: bytes) -> bytes:
        """Sign a TBSCertList. Raises `FinalCheckFailed` for anything that could be a TBSCertificate of version 3."""
        try:
            start, end = enter_whole(tbs_cert_list, SEQUENCE)
            enter(tbs_cert_list, start, end, INTEGER)  # a TBSCertificate begins with [0]: RFC 5280, 4.1 and 5.1
        except (Malformed, IndexError) as error:
            raise FinalCheckFailed(f"this is not a TBSCertList: {error}") from error
        return self._key.sign(tbs_cert_list)
