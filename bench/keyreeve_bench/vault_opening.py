"""Open every entry of a vault from its database, beside the running service and without it.

The keys come from the directory of the root provider. Nothing is written.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from keyreeve.cli.exit_codes import print_error
from keyreeve.errors import VaultKeyUnavailable
from keyreeve_chassis.database.opening import reading_database, writing_database
from keyreeve_chassis.database.transactions import Database
from keyreeve_chassis.processes.refusals import StartRefused
from keyreeve_chassis.settings.loading import load
from keyreeve_credentials.entries.ports import Entry
from keyreeve_credentials.entries.sql import SqlEntries
from keyreeve_credentials.keys.envelope import DoesNotOpen, Place, open_fields
from keyreeve_credentials.keys.keyring import Keyring
from keyreeve_credentials.keys.roots.files import open_root_files
from keyreeve_credentials.settings import CredentialsSettings
from keyreeve_credentials.store.schema import SCHEMA

AT_ONCE = 1_000


@dataclass(frozen=True, slots=True)
class Opened:
    """What was found."""

    entries: int
    """Entries that were read."""
    failed: int
    """Those that did not open."""
    seconds: float


def open_all(config: Path) -> Opened:
    """Open every entry of the vault of a settings file. Raises `StartRefused`, `keyreeve.errors`."""
    settings = load(CredentialsSettings, config, "KEYREEVE_CREDENTIALS_", environment={}).settings
    keyring = Keyring(open_root_files(settings.vault_keys_directory, first_start=False))
    began, entries, failed, after = time.perf_counter(), 0, 0, ""
    with ExitStack() as stack:
        database = _database(settings, stack)
        while page := database.read_here(lambda c, after=after: SqlEntries(c, c.execute).scan(after, AT_ONCE)):  # type: ignore[misc]
            entries, after = entries + len(page), page[-1].entry_uid
            failed += sum(not _opens(keyring, settings.trust_domain, entry) for entry in page)
    return Opened(entries, failed, round(time.perf_counter() - began, 1))


def _database(settings: CredentialsSettings, stack: ExitStack) -> Database:
    if settings.sqlite_file is not None:
        return stack.enter_context(reading_database(settings, SCHEMA))
    return stack.enter_context(writing_database(settings, SCHEMA, threads=1))


def _opens(keyring: Keyring, trust_domain: str, entry: Entry) -> bool:
    place = Place(
        trust_domain, entry.array_id, entry.entry_uid, entry.owner.text, entry.resource.text, entry.encryption
    )
    try:
        return bool(open_fields(keyring.get(entry.array_id, entry.sealed.kek_id), place, entry.sealed))
    except (DoesNotOpen, VaultKeyUnavailable):
        return False


def main(arguments: Sequence[str]) -> int:
    """Open all, print one JSON object and return the exit code: 1 when an entry did not open."""
    parser = argparse.ArgumentParser(prog="python -m keyreeve_bench.vault_opening", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="settings file of the credentials service")
    given = parser.parse_args(arguments)
    try:
        found = open_all(given.config)
    except StartRefused as refused:
        print_error(f"the vault cannot be read: {refused}")
        return 1
    sys.stdout.write(json.dumps({"entries": found.entries, "failed": found.failed, "seconds": found.seconds}) + "\n")
    return int(found.failed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
