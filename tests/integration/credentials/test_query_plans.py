"""No statement of a put, a resolve, a page of a list or a step of a re-keying walks through all entries."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Engine, event

from keyreeve.plaintext import Plaintext
from keyreeve_credentials.entries.names import parse_owner, parse_resource
from keyreeve_credentials.entries.ports import EntryFilter, EntryKind, EntrySource
from keyreeve_credentials.entries.service import EntryValue, NewEntry
from keyreeve_credentials.keys.sweep import Sweep
from keyreeve_credentials.settings import CredentialsSettings
from support.vault import PRAGUE
from support.vault_storage import VaultStorage, opened

ENTRIES = 2_000
OWNER, KEY = ".../_ens/o=I/cn=P7", ".../_ens/o=i/cn=p7"
LISTS = {
    "all": EntryFilter(),
    "one owner": EntryFilter(owner=KEY),
    "owners by their beginning": EntryFilter(owner=f"{KEY}*"),
    "one resource": EntryFilter(resource=PRAGUE),
    "both": EntryFilter(owner=KEY, resource=PRAGUE),
    "login passwords of one owner": EntryFilter(owner=KEY, login_only=True),
}


async def filled(vault: VaultStorage) -> None:
    await vault.context.vault.prepare("sales")
    value = EntryValue("user", EntryKind.PASSWORD, Plaintext.of("password"))
    server = parse_resource(PRAGUE)
    new = [NewEntry(parse_owner(f"o=I/cn=P{number}"), server, value) for number in range(ENTRIES)]
    await vault.context.store.write(
        lambda tx: vault.context.entries.create_all(tx, "sales", new, source=EntrySource.IMPORT)
    )


async def test_no_statement_depends_on_the_number_of_entries(settings: CredentialsSettings) -> None:
    async with opened(settings) as vault:
        store = vault.context.store
        await filled(vault)
        begun = await vault.begin_rotation("sales")
        sweep = Sweep(vault.context.vault, vault.context.now, lambda *_: None, 1e6, 0)
        log = store.audit_log()
        assert log.writer is not None
        if not log.writer.is_sqlite:  # SQLite is not analyzed
            await store.write(lambda tx: tx._connection.exec_driver_sql("ANALYZE entries"))
        owner, server = parse_owner(OWNER), parse_resource(PRAGUE)
        with recorded(log.writer.engine) as written, recorded(log.reader.engine) as read:
            made = await vault.put("sales", "o=I/cn=New", "secret")
            await vault.put("sales", "o=I/cn=New", "another")
            await store.read(lambda tx: tx.launches.entries_of("sales", owner, server, 500))
            for wanted in LISTS.values():
                for after in (None, (KEY, PRAGUE)):
                    await store.read(
                        lambda tx, wanted=wanted, after=after: tx.entries.page("sales", wanted, after=after, limit=151)
                    )
            await store.read(lambda tx: tx.entries.get("sales", made.entry_uid))
            await sweep.step(store, begun)
            await store.write(lambda tx: tx.entries.chosen("sales", None, server, limit=10))
            await store.write(lambda tx: tx.entries.touch(made.entry_uid, 1))
        statements = written | read
        assert sum(statement.startswith("SELECT") for statement in statements) >= 2 * len(LISTS)
        assert any(statement.startswith("UPDATE entries") for statement in statements)
        flaws = await store.read(lambda tx: list(walks(tx._connection, statements)))
        assert flaws == []


def walks(connection: Any, statements: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Statements that read all entries, or sort what they have read, with the step of the plan that does."""
    on_sqlite = connection.dialect.name == "sqlite"
    if not on_sqlite:
        connection.exec_driver_sql("SET LOCAL enable_seqscan = off")  # so few rows would be worth no index
    for statement, parameters in statements.items():
        if on_sqlite:
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all()
            # Sorting the right part orders the few entries of one owner.
            bad = [row[3] for row in plan if "SCAN entries" in row[3] or "TEMP B-TREE FOR ORDER BY" in row[3]]
        else:
            [[found]] = connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {statement}", parameters).all()
            bad = [json.dumps(node) for node in nodes(found[0]["Plan"]) if is_walk(node)]
        yield from ((statement, step) for step in bad)


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield {name: value for name, value in plan.items() if name != "Plans"}
    for below in plan.get("Plans", ()):
        yield from nodes(below)


def is_walk(node: dict[str, Any]) -> bool:
    if node["Node Type"] == "Seq Scan":
        return bool(node["Relation Name"] == "entries")
    return bool(node["Node Type"] == "Sort" and node["Plan Rows"] > ENTRIES / 4)


@contextmanager
def recorded(engine: Engine) -> Iterator[dict[str, Any]]:
    """Statements about entries that are executed, with the values of the first time."""
    found: dict[str, Any] = {}

    def record(_connection: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, many: bool) -> None:
        if " entries" in statement:
            found.setdefault(statement, parameters[0] if many else parameters)

    event.listen(engine, "before_cursor_execute", record)
    yield found
    event.remove(engine, "before_cursor_execute", record)
