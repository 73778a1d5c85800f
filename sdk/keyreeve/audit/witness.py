"""A witness: it keeps the highest checkpoint it has seen, and takes a newer one only if its log begins with the old one.

It lies where the database's administrators do not reach, so that a log that was cut short, or rebuilt from some point on,
does not fit it any more. The audit key is the one that the witness saw first, unless it was given one.
"""

import base64
import binascii
import json
from dataclasses import dataclass
from pathlib import Path

from keyreeve.audit.log import Checkpoint, digest
from keyreeve.audit.merkle import is_consistent
from keyreeve.audit.record import RecordInvalid
from keyreeve.audit.values import SignedCheckpoint
from keyreeve.audit.verifying import KeyUnusable, Verifier, Witnessed
from keyreeve.errors import AuditTampered, FileUnusable
from keyreeve.files import write_atomically

_FORMAT = "keyreeve-audit-witness-1"


@dataclass(frozen=True, slots=True)
class Witness:
    """What a witness knows."""

    spki: bytes
    body: bytes
    signature: bytes

    @property
    def seen(self) -> Witnessed:
        """The checkpoint by number and hash."""
        return Witnessed(self.checkpoint.k, digest(self.body))

    @property
    def checkpoint(self) -> Checkpoint:
        """Its values."""
        return Checkpoint.decode(self.body)

    @classmethod
    def load(cls, path: Path) -> "Witness | None":
        """Read a witness's file; None when there is none yet. Raises `FileUnusable`."""
        try:
            told = json.loads(path.read_text())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as wrong:
            raise FileUnusable(f"the witness {path} cannot be read: {wrong}") from None
        try:
            if told["format"] != _FORMAT:
                raise FileUnusable(f"{path} is no witness of this form")
            spki, body, signature = (base64.b64decode(told[name], validate=True) for name in _FIELDS)
            Checkpoint.decode(body)
        except (KeyError, TypeError, binascii.Error, RecordInvalid) as wrong:
            raise FileUnusable(f"the witness {path} cannot be read: {wrong!r}") from None
        return cls(spki, body, signature)

    def save(self, path: Path) -> None:
        """Write it durably, in place of an earlier one."""
        values = zip(_FIELDS, (self.spki, self.body, self.signature), strict=True)
        told = {"format": _FORMAT, "k": self.checkpoint.k} | {n: base64.b64encode(v).decode() for n, v in values}
        write_atomically(path, (json.dumps(told, indent=1) + "\n").encode())


_FIELDS = ("spki", "body", "signature")


def accept(known: Witness | None, signed: SignedCheckpoint) -> Witness:
    """The witness after it has seen `signed`. Raises `AuditTampered` when that does not grow out of what it knows."""
    spki = known.spki if known is not None else signed.spki
    if signed.spki != spki:
        raise AuditTampered("the service signs with another audit key than the one that the witness knows")
    try:
        new = signed.checkpoint
        verifier = Verifier(spki)
    except (RecordInvalid, KeyUnusable) as wrong:
        raise AuditTampered(f"the service answers a checkpoint that cannot be read: {wrong}") from None
    if not verifier.has_signed(signed.body, signed.signature):
        raise AuditTampered(f"checkpoint {new.k} was not signed with the audit key")
    made = Witness(spki, signed.body, signed.signature)
    if known is None:
        return made
    old = known.checkpoint
    facts = {"witnessed": str(old.k), "answered": str(new.k)}
    if new.k < old.k:
        raise AuditTampered(f"checkpoint {old.k} was witnessed, and the log now ends with {new.k}", metadata=facts)
    if new.k == old.k and signed.body != known.body:
        raise AuditTampered(f"another checkpoint {old.k} was witnessed", metadata=facts)
    if new.k > old.k and not is_consistent(old.size, old.root, new.size, new.root, signed.proof):
        raise AuditTampered(
            f"the log of checkpoint {new.k} does not begin with that of checkpoint {old.k}", metadata=facts
        )
    return made
