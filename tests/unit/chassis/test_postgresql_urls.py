"""Forms of PostgreSQL URLs: SQLAlchemy's, libpq's with several hosts, and key=value."""

import pytest
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

from keyreeve_chassis.database.engine import postgresql_url, refuse_unverified
from keyreeve_chassis.processes.refusals import StartRefused


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        (
            "postgresql://kr@127.0.0.1:6101,127.0.0.1:6102/kr?target_session_attrs=read-write",
            {"host": "127.0.0.1,127.0.0.1", "port": "6101,6102", "target_session_attrs": "read-write"},
        ),
        (
            "postgresql://kr@/kr?host=127.0.0.1:6101&host=127.0.0.1:6102&target_session_attrs=read-write",
            {"host": "127.0.0.1,127.0.0.1", "port": "6101,6102", "target_session_attrs": "read-write"},
        ),
        ("host=127.0.0.1 port=6101 user=kr dbname=kr", {"host": "127.0.0.1", "port": "6101"}),
        ("postgresql://kr@db.example.test/kr", {"host": "db.example.test"}),
        ("postgresql://kr@/kr?host=/var/run/postgresql", {"host": "/var/run/postgresql"}),
    ],
)
def test_each_form_leads_to_the_same_arguments(text: str, arguments: dict[str, str]) -> None:
    _, made = PGDialect_psycopg().create_connect_args(postgresql_url(text))
    assert made == {"user": "kr", "dbname": "kr"} | arguments


@pytest.mark.parametrize(
    ("text", "environment"),
    [
        ("postgresql://kr:hunter2@db/kr?sslmode=verify-full", None),
        ("postgresql://kr@db/kr", "verify-full"),
        ("postgresql://kr@db1,db2/kr?target_session_attrs=read-write", "verify-full"),
        ("host=db user=kr password=sslmode=disable sslmode=verify-full", None),
    ],
)
def test_a_url_that_verifies_the_server_is_accepted(
    text: str, environment: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_mode(monkeypatch, environment)
    refuse_unverified(text)


@pytest.mark.parametrize(
    ("text", "environment"),
    [
        ("postgresql://kr:hunter2@db/kr", None),
        ("postgresql://kr:hunter2@db/kr", "require"),
        ("postgresql://kr:hunter2@db/kr?sslmode=require", "verify-full"),
        ("postgresql://kr:hunter2@db/kr?sslmode=verify-ca", "verify-full"),
        ("postgresql://kr:hunter2@db/kr?ssl%6dode=disable", "verify-full"),
        ("postgresql://kr:hunter2@db1,db2/kr?sslmode=prefer", "verify-full"),
        ("postgresql://kr:hunter2@db/kr?ssl=true", "verify-full"),
        ("postgresql://kr:hunter2@db/kr?service=weak", "verify-full"),
        ("host=db user=kr password=hunter2 sslmode = 'allow'", "verify-full"),
    ],
)
def test_any_other_is_refused_without_its_password(
    text: str, environment: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_mode(monkeypatch, environment)
    with pytest.raises(StartRefused, match=r"verify_tls.*sslmode=verify-full") as refusal:
        refuse_unverified(text)
    assert "hunter2" not in str(refusal.value)


def set_mode(monkeypatch: pytest.MonkeyPatch, mode: str | None) -> None:
    monkeypatch.delenv("PGSSLMODE", raising=False)
    if mode is not None:
        monkeypatch.setenv("PGSSLMODE", mode)


@pytest.mark.parametrize("text", ["hunter2 secret", "postgresql://a@h1:1,h2:2,h3/x?port=1,2"])
def test_another_form_is_refused_in_words_without_repeating_it(text: str) -> None:
    with pytest.raises(StartRefused, match=r"database\.url") as refusal:
        postgresql_url(text)
    assert "hunter2" not in str(refusal.value)
