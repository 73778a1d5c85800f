"""Services behind a PgBouncer in transaction mode, which has fewer connections to PostgreSQL than they have to it."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from subprocess import Popen

import psycopg
import pytest
from pydantic import SecretStr

from keyreeve import Client
from keyreeve.errors import DeadlinePassed, Unavailable
from keyreeve.keys import make_csr, make_key
from keyreeve.plaintext import Plaintext
from keyreeve.request_ids import new_request_id
from keyreeve.values import CrlReason, Name
from keyreeve_chassis.settings.sections import DatabaseSettings
from keyreeve_credentials.store.schema import SCHEMA as VAULT
from support.databases import fresh_postgresql_database
from support.forked_ca import ForkedCa, again_and_again, forked_ca, forking_program, join
from support.migrated import migrated_postgresql
from support.pgbouncer import Pooler, pooler
from support.postgres import Server
from support.programs import needs
from support.vault import BILL, PRAGUE, running_vault, vault_settings

__all__ = ["forking_program"]

CONNECTIONS = 3
"""Of the pooler; each coordinator and each worker has four to the pooler."""
CALLERS = 8

pytestmark = [pytest.mark.faults, needs("pgbouncer")]


def issue(client: Client, number: int) -> str:
    """Issue a certificate, whatever happens on the way; its serial number."""
    name = f"w{number}.pool.example.test"
    csr, mark = make_csr(make_key(), [Name.dns(name)]), new_request_id()
    signed = again_and_again("it is certified", lambda: client.certificates.sign("server", csr, request_id=mark))
    return signed.name.partition("/")[2]


def serials(client: Client) -> set[str]:
    """Of all certificates in the ledger."""
    return {found.name.partition("/")[2] for found in client.certificates.list()}


@contextmanager
def replica(program: "Popen[str]", pool: Pooler, url: str, name: str) -> Iterator[ForkedCa]:
    database = url.partition("@/")[2].partition("?")[0]
    settings = {"INSTANCE": name, "DATABASE__URL": pool.url(database), "DATABASE__DIRECT_URL": url}
    with forked_ca(program, url, **settings) as made:
        yield made


def test_two_replicas_issue_revoke_and_keep_their_audit_log(
    forking_program: "Popen[str]", postgresql_server: Server
) -> None:
    with (
        fresh_postgresql_database(postgresql_server) as url,
        pooler(postgresql_server, connections=CONNECTIONS) as pool,
        replica(forking_program, pool, url, "one") as first,
        replica(forking_program, pool, url, "two") as second,
    ):
        first.serve()
        join(first, second)
        second.serve()
        with Client(first.admit(), timeout=20) as one, ThreadPoolExecutor(CALLERS) as threads:
            issued = list(threads.map(lambda number: issue(one, number), range(24)))
            one.certificates.revoke(issued[0], CrlReason.SUPERSEDED)
            assert serials(one) >= set(issued)
            assert one.audit.verify().problems == ()


def test_a_pooler_that_dies_loses_nothing_that_was_acknowledged(
    forking_program: "Popen[str]", postgresql_server: Server
) -> None:
    with (
        fresh_postgresql_database(postgresql_server) as url,
        pooler(postgresql_server, connections=CONNECTIONS) as pool,
        replica(forking_program, pool, url, "one") as ca,
    ):
        ca.serve()
        ca.may_fail = True
        with ca.nursed(), Client(ca.admit(), timeout=5) as client, ThreadPoolExecutor(CALLERS) as threads:
            calls = [threads.submit(issue, client, number) for number in range(40)]
            settled: list[str] = []
            for _ in range(3):
                settled.append(calls.pop(0).result())
                pool.stop()
                with pytest.raises((Unavailable, DeadlinePassed)):
                    client.certificates.get(next(iter(settled)))
                pool.start()
            issued = {*settled, *(call.result() for call in calls)}
            assert len(issued) == 40
            assert again_and_again("it lists", lambda: serials(client)) >= issued
            assert client.audit.verify().problems == ()


async def test_the_vault_works_and_leaves_no_setting_behind_on_the_poolers_connections(
    postgresql_server: Server, tmp_path: Path
) -> None:
    name = migrated_postgresql(postgresql_server, VAULT)
    with pooler(postgresql_server, connections=1) as pool:
        settings = vault_settings(tmp_path)
        database = DatabaseSettings(url=SecretStr(pool.url(name)), direct_url=SecretStr(postgresql_server.url(name)))
        async with running_vault(settings.model_copy(update={"database": database}), tmp_path) as vault:
            entries = (await vault.client()).credentials.entries
            made = [await entries.create("sales", f"{BILL}{n}", PRAGUE, "bill", Plaintext.of("x")) for n in range(8)]
            assert (await entries.reveal(made[3].name, purpose="support")).secret.text() == "x"
            with psycopg.connect(pool.url(name), prepare_threshold=None) as other:
                left = other.execute(
                    "SELECT current_setting('search_path'), count(*) FROM pg_prepared_statements"
                ).fetchone()
            assert left == ('"$user", public', 0)
