"""What may be replaced in a file space, and where the replaced files are kept.

A new key breaks the service that uses the certificate of the old one at once. So a key whose files are in use is not replaced
unless forced, and what is replaced is kept under a restorable name, the key with its certificate.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from keyreeve.errors import KeyFileExists, KeyFileInUse
from keyreeve_credentials.key_files.file_names import CERTIFICATE, KEY, free_number, restorable_name


@dataclass(frozen=True, slots=True)
class Replacement:
    """What happens to the files that are there already."""

    kept: Mapping[str, str]
    """Files by their names so far, and the names under which they are kept."""


def replace_files(
    new: Collection[str], existing: Collection[str], in_use: Collection[str], *, replace: bool, force: bool
) -> Replacement:
    """Decide whether files may be written over existing ones.

    Raises `KeyFileExists` without `replace`; `KeyFileInUse` for a key that is in use, or whose certificate is, without
    `force`.
    """
    over = sorted(set(new) & set(existing))
    if not over:
        return Replacement({})
    if not replace and not force:
        raise KeyFileExists(f"the file {over[0]} exists")
    used = used_with(over, in_use)
    if used and not force:
        key = next(name for name in over if used_with([name], in_use))
        verb = "is" if len(used) == 1 else "are"
        raise KeyFileInUse(
            f"the key {key} is not replaced: {' and '.join(used)} {verb} in use, and would not match the new key"
        )
    pair = {name for key in over if key.endswith(KEY) for name in pair_of(key) if name in existing}
    moved = sorted(set(over) | pair)
    number = free_number(moved, existing)
    return Replacement({name: restorable_name(name, number) for name in moved})


def used_with(names: Collection[str], in_use: Collection[str]) -> list[str]:
    """Return the files in use that one of these keys belongs to, itself included."""
    return sorted({one for name in names if name.endswith(KEY) for one in pair_of(name) if one in in_use})


def pair_of(key: str) -> tuple[str, str]:
    """Return the names of a key and of its certificate."""
    return key, f"{key.removesuffix(KEY)}{CERTIFICATE}"
