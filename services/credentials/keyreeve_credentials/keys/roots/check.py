"""The check at the start that the root provider has the keys of this database, under the root key that sealed them."""

from collections.abc import Iterable

from keyreeve.errors import VaultKeyUnavailable
from keyreeve_chassis.keys.ports import KeyStoreError
from keyreeve_credentials.keys.ports import Kek, KekState, RootProvider

_MOST_OPENED = 8
"""Keys that are tried: one that opens is enough, and a wrong root key opens none."""


def check_root(root: RootProvider, known: Iterable[Kek]) -> None:
    """Open a key that the database knows. Raises `KeyStoreError`, with what to do, `StoreUnavailable`.

    Under another root key the next write would make a key that the right root key does not open.
    """
    needed = {kek.kek_id: kek for kek in known if kek.state in {KekState.WRITER, KekState.DRAINING}}
    present = [needed.pop(kek_id) for kek_id in root.list() if kek_id in needed] if needed else []
    if not present:
        missing = [kek_id for kek_id in needed if not root.confirm(kek_id)]
        if not missing:  # no key yet, or a database from before all its keys were destroyed
            return
        raise KeyStoreError(
            f"the root provider has none of the {len(missing)} key-encryption keys that the database knows",
            "Restore them from where they are kept, or use the database that they belong to",
        )
    for kek in present[:_MOST_OPENED]:
        try:
            root.open(kek.array_id, kek.kek_id)
        except VaultKeyUnavailable:
            continue
        return
    raise KeyStoreError(
        "the vault's root key does not open the key-encryption keys beside it: it is not the one that sealed them",
        "Restore the root key from where it is kept; the service must not make keys under another one",
    )
