"""Envelope encryption of values: pure functions of keys and places (docs/protocols.md).

    AAD     = LP("keyreeve-vault-1", td, array_uid, entry_uid, owner, resource, field, version, kek_id)
    field   = nonce (12 random octets) || AES-256-GCM(data key, plaintext, AAD)
    wrapped = nonce (12 random octets) || AES-256-GCM(KEK, data key, LP(entry_uid, version, kek_id))

`LP` is `keyreeve.length_prefix`; text is UTF-8, `version` is 8 octets, big-endian. Each write has a new random data key, so
a value opens at its own place only: of its array, entry, owner, resource, field, version and key-encryption key.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from keyreeve.length_prefix import length_prefixed
from keyreeve.plaintext import Plaintext
from keyreeve_credentials.keys.ports import OpenKek, Sealed

LABEL: Final = b"keyreeve-vault-1"
DATA_KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
_VERSION_BYTES: Final = 8

Random = Callable[[int], bytes]


class DoesNotOpen(Exception):
    """The bytes are not those of this place, or have been changed; the message holds neither."""


@dataclass(frozen=True, slots=True)
class Place:
    """What a value is bound to, beside its field and its key-encryption key."""

    trust_domain: str
    array_uid: str
    entry_uid: str
    owner: str
    resource: str
    version: int
    """Counts the encryptions of the entry."""

    def associated_data(self, field_name: str, kek_id: str) -> bytes:
        """The associated data of a field."""
        return length_prefixed(
            LABEL,
            self.trust_domain.encode(),
            self.array_uid.encode(),
            self.entry_uid.encode(),
            self.owner.encode(),
            self.resource.encode(),
            field_name.encode(),
            self.version.to_bytes(_VERSION_BYTES, "big"),
            kek_id.encode(),
        )

    def wrap_data(self, kek_id: str) -> bytes:
        """The associated data of the wrapped data key."""
        return length_prefixed(self.entry_uid.encode(), self.version.to_bytes(_VERSION_BYTES, "big"), kek_id.encode())


def seal_fields(kek: OpenKek, kek_id: str, place: Place, fields: Mapping[str, Plaintext], random: Random) -> Sealed:
    """Encrypt fields under a new data key."""
    data_key = random(DATA_KEY_BYTES)
    cipher = AESGCM(data_key)
    sealed: dict[str, bytes] = {}
    for name, value in fields.items():
        nonce = random(NONCE_BYTES)
        sealed[name] = nonce + cipher.encrypt(nonce, value.reveal(), place.associated_data(name, kek_id))
    nonce = random(NONCE_BYTES)
    return Sealed(kek_id, nonce + kek.encrypt(nonce, data_key, place.wrap_data(kek_id)), sealed)


def open_fields(kek: OpenKek, place: Place, sealed: Sealed) -> dict[str, Plaintext]:
    """Decrypt all fields. Raises `DoesNotOpen` when any of them is not what was sealed at this place."""
    wrapped = sealed.wrapped_key
    try:
        data_key = kek.decrypt(wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:], place.wrap_data(sealed.kek_id))
        cipher = AESGCM(data_key)
        return {
            name: Plaintext(
                cipher.decrypt(value[:NONCE_BYTES], value[NONCE_BYTES:], place.associated_data(name, sealed.kek_id))
            )
            for name, value in sealed.fields.items()
        }
    except (InvalidTag, ValueError):  # ValueError: too short for a nonce or a tag
        raise DoesNotOpen("a sealed value does not open at its place") from None
