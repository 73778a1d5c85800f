"""Witnesses: the highest checkpoint seen of an audit log.

It is replaced by a newer one only with a proof that its log begins with the old one.

A witness is stored where the database's administrators have no access, so that it reveals a log that was truncated or
rebuilt. It trusts the audit key that it saw first.
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
    """The audit key and the highest checkpoint that was seen."""

    spki: bytes
    body: bytes
    signature: bytes

    @property
    def seen(self) -> Witnessed:
        """Number and hash of the checkpoint."""
        return Witnessed(self.checkpoint.k, digest(self.body))

    @property
    def checkpoint(self) -> Checkpoint:
        """The values of the checkpoint."""
        return Checkpoint.decode(self.body)

    @classmethod
    def load(cls, path: Path) -> "Witness | None":
        """Read a witness file; None when it does not exist. Raises `FileUnusable`."""
        try:
            document = json.loads(path.read_text())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as wrong:
            raise FileUnusable(f"the witness {path} cannot be read: {wrong}") from None
        try:
            if document["format"] != _FORMAT:
                raise FileUnusable(f"{path} is not a witness file")
            spki, body, signature = (base64.b64decode(document[name], validate=True) for name in _FIELDS)
            Checkpoint.decode(body)
        except (KeyError, TypeError, binascii.Error, RecordInvalid) as wrong:
            raise FileUnusable(f"the witness {path} cannot be read: {wrong!r}") from None
        return cls(spki, body, signature)

    def save(self, path: Path) -> None:
        """Write the file durably, in place of an earlier one. Raises `OSError`."""
        values = zip(_FIELDS, (self.spki, self.body, self.signature), strict=True)
        document = {"format": _FORMAT, "k": self.checkpoint.k} | {n: base64.b64encode(v).decode() for n, v in values}
        write_atomically(path, (json.dumps(document, indent=1) + "\n").encode())


_FIELDS = ("spki", "body", "signature")


def accept(known: Witness | None, signed: SignedCheckpoint) -> Witness:
    """Return the witness that has seen `signed`.

    Raises `AuditTampered` unless it continues the known log.
    """
    spki = known.spki if known is not None else signed.spki
    if signed.spki != spki:
        raise AuditTampered("the service uses another audit key than the witness knows")
    try:
        new = signed.checkpoint
        verifier = Verifier(spki)
    except (RecordInvalid, KeyUnusable) as wrong:
        raise AuditTampered(f"the service sent a malformed checkpoint: {wrong}") from None
    if not verifier.has_signed(signed.body, signed.signature):
        raise AuditTampered(f"checkpoint {new.k} was not signed with the audit key")
    made = Witness(spki, signed.body, signed.signature)
    if known is None:
        return made
    old = known.checkpoint
    metadata = {"witnessed": str(old.k), "answered": str(new.k)}
    if new.k < old.k:
        raise AuditTampered(f"checkpoint {old.k} was witnessed, but the log ends with {new.k}", metadata=metadata)
    if new.k == old.k and signed.body != known.body:
        raise AuditTampered(f"another checkpoint {old.k} was witnessed", metadata=metadata)
    if new.k > old.k and not is_consistent(old.size, old.root, new.size, new.root, signed.proof):
        raise AuditTampered(
            f"the log of checkpoint {new.k} does not begin with that of checkpoint {old.k}", metadata=metadata
        )
    return made
