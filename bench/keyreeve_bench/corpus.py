"""Corpus of certificate requests, made before the measurement and shared with the processes as a file."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from keyreeve.keys import make_csr, make_key
from keyreeve.values import KeyType, Name

_COUNTS = {
    KeyType.P256: (512, 512),
    KeyType.P384: (128, 256),
    KeyType.RSA2048: (16, 128),
    KeyType.ED25519: (512, 512),
}
"""Keys and requests of each key type; RSA keys are slow to make, so several requests share one."""
_LENGTH = 4


def make_corpus(keys: str, dns_suffix: str, *, share: float = 1.0) -> list[bytes]:
    """Make DER requests for distinct DNS names below `dns_suffix`; `share` < 1 makes fewer of them.

    `mix` alternates between all key types.
    """
    kinds = list(_COUNTS) if keys == "mix" else [KeyType(keys)]
    corpora = [list(_of_kind(kind, dns_suffix, share)) for kind in kinds]
    shortest = min(len(corpus) for corpus in corpora)
    return [csr for turn in zip(*(corpus[:shortest] for corpus in corpora), strict=True) for csr in turn]


def _of_kind(kind: KeyType, dns_suffix: str, share: float) -> Iterator[bytes]:
    keys, requests = (max(1, round(count * share)) for count in _COUNTS[kind])
    made = [make_key(kind) for _ in range(keys)]
    for number in range(requests):
        yield make_csr(made[number % keys], [Name.dns(f"{kind}-{number}.{dns_suffix}")])


def save(path: Path, items: Sequence[bytes]) -> None:
    """Write items, each preceded by its length in four octets."""
    path.write_bytes(b"".join(len(item).to_bytes(_LENGTH) + item for item in items))


def load(path: Path) -> list[bytes]:
    """Read what `save` wrote."""
    data = path.read_bytes()
    items, at = [], 0
    while at < len(data):
        length = int.from_bytes(data[at : at + _LENGTH])
        at += _LENGTH + length
        items.append(data[at - length : at])
    return items
