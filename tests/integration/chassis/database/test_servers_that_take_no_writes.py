"""A server that becomes a standby while a service is connected to it, as when a failover moves the primary."""

import uuid
from collections.abc import Iterator
from contextlib import closing

import pytest
from sqlalchemy import Connection, text

from keyreeve.errors import StoreUnavailable
from keyreeve_chassis.database.engine import postgresql
from keyreeve_chassis.database.transactions import Database
from support.postgres import Server


@pytest.fixture
def database(postgresql_server: Server) -> Iterator[Database]:
    name = f"failover_{uuid.uuid4().hex}"
    postgresql_server.execute(f"CREATE DATABASE {name}")
    engine = postgresql(postgresql_server.url(name), schema="public", application_name="test", connections=1)
    with closing(Database(engine, service="inventory", threads=1)) as made:
        made.write_here(lambda connection: connection.execute(text("CREATE TABLE things (id int)")))
        yield made
    postgresql_server.execute(f"DROP DATABASE {name} WITH (FORCE)")


def insert(connection: Connection) -> None:
    connection.execute(text("INSERT INTO things VALUES (1)"))


def test_a_connection_to_a_server_that_takes_no_writes_is_named_and_replaced(database: Database) -> None:
    def become_read_only(connection: Connection) -> None:
        connection.execute(text("SET default_transaction_read_only = on"))

    database.write_here(become_read_only)  # of this connection, as if it led to a standby
    with pytest.raises(StoreUnavailable, match="is a standby or read-only, and takes no writes"):
        database.write_here(insert)
    database.write_here(insert)
    assert database.read_here(lambda connection: connection.execute(text("SELECT count(*) FROM things")).scalar()) == 1
