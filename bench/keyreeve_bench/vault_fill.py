"""`python -m keyreeve_bench.vault_fill`: fill a vault with synthetic entries, to measure a large one.

    keyreeve down
    python -m keyreeve_bench.vault_fill --entries 1000000 --config .keyreeve/credentials.yaml
    keyreeve up

The entries are encrypted and audited as those of calls are. The service must not run meanwhile.
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keyreeve.cli.exit_codes import print_error
from keyreeve.plaintext import Plaintext
from keyreeve_bench.vault_names import ARRAY, SERVER, owner_of
from keyreeve_chassis.audit.recording import system_event
from keyreeve_chassis.processes.lifecycle import system_clock
from keyreeve_chassis.processes.refusals import StartRefused
from keyreeve_chassis.settings.loading import load
from keyreeve_credentials.app import STORAGE, CredentialsContext
from keyreeve_credentials.entries.names import ObjectName, parse_owner, parse_resource
from keyreeve_credentials.entries.ports import EntryKind, EntrySource
from keyreeve_credentials.entries.service import EntryValue, NewEntry
from keyreeve_credentials.entries.servicer import row_text
from keyreeve_credentials.settings import CredentialsSettings

AT_ONCE = 20_000
"""Entries in one transaction. Their ids are random: fewer, larger transactions write each page of an index less often."""
IN_RECORD = 500
"""Rows that one audit record names."""


async def fill(config: Path, count: int) -> float:
    """Put entries for one server into the vault of a settings file; return the seconds. Raises `StartRefused`."""
    settings = load(CredentialsSettings, config, "KEYREEVE_CREDENTIALS_", environment={}).settings
    began = time.perf_counter()
    async with STORAGE.open(settings, now=system_clock, process="bench-fill") as opened:
        for job in opened.jobs:
            job.close()
        context = opened.context
        assert isinstance(context, CredentialsContext)
        await context.vault.prepare(ARRAY)
        for first in range(0, count, AT_ONCE):
            numbers = range(first, min(first + AT_ONCE, count))
            await context.store.write(lambda tx, numbers=numbers: _put(context, tx, numbers))  # type: ignore[misc]
    return time.perf_counter() - began


def _put(context: CredentialsContext, tx: Any, numbers: Sequence[int]) -> None:  # noqa: ANN401 - the service's transaction
    server = parse_resource(SERVER)
    for first in range(0, len(numbers), IN_RECORD):
        new = [_entry(number, server) for number in numbers[first : first + IN_RECORD]]
        made = context.entries.create_all(tx, ARRAY, new, source=EntrySource.IMPORT)
        rows = tuple(("row", row_text(one.name, one.encryption, one.row_sha256())) for one in made)
        tx.audit.append(system_event("bench.fill", context.now(), rows))


def _entry(number: int, server: ObjectName) -> NewEntry:
    value = EntryValue(f"user{number}", EntryKind.PASSWORD, Plaintext.of(f"password of {number}"))
    return NewEntry(parse_owner(owner_of(number)), server, value)


def main(arguments: Sequence[str]) -> int:
    """Fill a vault, print one JSON object and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m keyreeve_bench.vault_fill", description="Fill a vault.")
    parser.add_argument("--entries", type=int, required=True)
    parser.add_argument("--config", type=Path, required=True, help="settings file of the credentials service")
    given = parser.parse_args(arguments)
    try:
        seconds = asyncio.run(fill(given.config, given.entries))
    except StartRefused as refused:
        print_error(f"the vault cannot be filled: {refused}")
        return 1
    sys.stdout.write(json.dumps({"entries": given.entries, "seconds": round(seconds, 1)}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
