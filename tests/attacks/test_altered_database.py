"""Another party writes the database without the key-encryption key: nobody gains a right, and it is found and named."""

import os
import random
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from sqlalchemy import Engine, Table, and_, create_engine, delete, insert, select, update
from sqlalchemy.exc import DatabaseError

from keyreeve import Client, Context, errors
from keyreeve.cli.administration.audit_commands import verify_service_log
from keyreeve.enrollment import enroll
from keyreeve.identity import Role
from keyreeve.keys import make_csr, make_key
from keyreeve.values import CrlReason, OperatorRole, SignedCertificate
from keyreeve_ca.app import look, open_keystore
from keyreeve_ca.blocked_keys.tables import blocked_keys
from keyreeve_ca.enrollment.tables import enrollment_tokens
from keyreeve_ca.issuance.snapshot import IssuanceSnapshot, load_snapshot
from keyreeve_ca.operators.dual_control import DualControl, actor_of
from keyreeve_ca.operators.tables import operator_approvals, operators
from keyreeve_ca.profiles.document import profile_from_canonical
from keyreeve_ca.requests.csr import read_csr
from keyreeve_ca.revocation.tables import revocations
from keyreeve_ca.settings import CaSettings, HttpSettings
from keyreeve_ca.store.sql import CaTransaction
from keyreeve_ca.store.tables import authorities, profiles
from keyreeve_ca.store.trust_tables import TRUST_TABLES
from keyreeve_chassis.database.engine import postgresql
from keyreeve_chassis.local_admin.client import recover_trust_tables
from keyreeve_chassis.trust_tables.seals import Seals
from keyreeve_chassis.trust_tables.sql import SqlTrust
from keyreeve_chassis.trust_tables.watching import TrustWatch
from support.attack_table import SHOWN
from support.enrolling import OPEN_TO_TESTS, address_of, new_token
from support.running_ca import ADMIN, AUDITOR, OPERATOR, RunningCa, place_for_ca, refused, server_csr, unique
from support.waiting import wait_for

pytestmark = pytest.mark.sqlite_first

HEADS = TRUST_TABLES.heads
ALTERATIONS = 1_000 if SHOWN in os.environ else 300
"""On each database."""


class StartedAgain(RunningCa):
    """A CA whose start adds nobody to its records."""

    def _know_usual_people(self, tx: Any) -> None:
        """Leave them."""


@dataclass
class Attacked:
    """A CA that can be stopped and started, and its database, which another party writes."""

    ca: RunningCa
    engine: Engine

    def write(self, *statements: Any) -> None:
        """Write as someone with the database's password and no key."""
        with self.engine.begin() as connection:
            for statement in statements:
                connection.execute(statement)

    def rows(self, table: Table) -> list[dict[str, Any]]:
        with self.engine.connect() as connection:
            return [dict(row) for row in connection.execute(select(table)).mappings()]

    def restart(self, *, workers: int = 1) -> RunningCa:
        self.ca.stop()
        self.ca = StartedAgain(self.ca.settings, self.ca.directory, workers=workers)
        self.ca.start()
        return self.ca

    def problems(self) -> set[str]:
        """What the CA says is altered."""
        report = self.ca.run(recover_trust_tables(self.ca.settings.coordinator_socket, seal=False))
        return {f"{one['table']}: {one['problem']}" for one in report["alterations"]}

    def look_again(self) -> None:
        """Have every process read the tables, as each does every minute."""
        store = self.ca.coordinator.issuance.store
        self.ca.run(store.write(lambda tx: tx.bump_config()))
        version = self.ca.read(lambda tx: tx.control_plane().config_version)
        wait_for(
            "the worker has read them",
            lambda: all(one.live.current().config_version >= version for one in self.ca.servings),
        )


@pytest.fixture(params=["sqlite", "postgresql"])
def attacked(request: pytest.FixtureRequest) -> Iterator[Attacked]:
    with place_for_ca(request.param, request, enroll=OPEN_TO_TESTS, http=HttpSettings(port=0)) as (directory, settings):
        ca = RunningCa(settings, directory, workers=1)
        ca.start()
        made = Attacked(ca, engine_of(settings))
        try:
            yield made
        finally:
            made.ca.stop()
            made.engine.dispose()


def engine_of(settings: CaSettings) -> Engine:
    """Open the database beside the CA."""
    if settings.sqlite_file is None:
        url = settings.database.url.get_secret_value()
        return postgresql(url, schema="keyreeve_ca", application_name="attacker", connections=1)
    return create_engine(f"sqlite:///{settings.sqlite_file}")


def issues(ca: RunningCa) -> bool:
    """Whether an operator gets a certificate."""
    try:
        ca.client(OPERATOR).certificates.sign("server", server_csr(f"{unique('web')}.example.test"))
    except errors.TrustTableAltered:
        return False
    return True


def removed_admin(ca: RunningCa) -> str:
    """An admin with a certificate who has been removed."""
    path = f"operators/admin/{unique('mallory')}"
    assert ca.client(path).operators.get("ann")
    ca.client().operators.remove(path.rpartition("/")[2])
    return path


def ca_client(ca: RunningCa, context: Context) -> Client:
    """A client with a certificate from before a restart."""
    return Client(replace(context, endpoints={"ca": f"127.0.0.1:{ca.servings[0].port}"}))


def revive(attacked: Attacked, path: str) -> None:
    """Undo the removal of an admin: their record, and the revocation of their certificates."""
    name = path.rpartition("/")[2]
    attacked.write(
        update(operators).where(operators.c.name == name).values(removed_at=None, removed_by=""),
        delete(revocations),
    )


def test_a_removed_admin_is_not_revived_by_clearing_the_removal(attacked: Attacked) -> None:
    mallory = removed_admin(attacked.ca)
    context = attacked.ca.context(mallory)
    revive(attacked, mallory)
    attacked.look_again()
    with ca_client(attacked.ca, context) as client:
        assert isinstance(refused(lambda: client.operators.get("ann")), errors.KeyreeveError)
    assert not issues(attacked.ca)
    assert "revocations: rows" in attacked.problems()
    ca = attacked.restart()
    with ca_client(ca, context) as client:
        assert isinstance(refused(lambda: client.operators.get("ann")), errors.KeyreeveError)


def test_an_old_row_of_a_removed_admin_that_is_put_back_is_not_believed(attacked: Attacked) -> None:
    path = f"operators/admin/{unique('mallory')}"
    name = path.rpartition("/")[2]
    context = attacked.ca.context(path)
    with ca_client(attacked.ca, context) as client:
        assert client.operators.get("ann")
    old = next(row for row in attacked.rows(operators) if row["name"] == name)
    attacked.ca.client().operators.remove(name)
    attacked.write(update(operators).where(operators.c.person_uid == old["person_uid"]).values(**old))
    attacked.look_again()
    assert "operators: put back" in attacked.problems()
    assert not issues(attacked.ca)
    ca = attacked.restart()
    with ca_client(ca, context) as client:
        assert isinstance(refused(lambda: client.operators.get("ann")), errors.KeyreeveError)


def test_a_made_up_retiring_authority_vouches_for_nobody(attacked: Attacked) -> None:
    real = next(row for row in attacked.rows(authorities) if row["authority_id"] == "control-issuing-1")
    attacked.write(
        insert(authorities).values(**{**real, "authority_id": "made-up", "state": "retiring", "certificate_der": b"x"})
    )
    attacked.look_again()
    assert "authorities: added" in attacked.problems()
    for serving in attacked.ca.servings:
        assert "made-up" not in serving.live.current().authorities
    assert "made-up" not in attacked.restart().servings[0].live.current().authorities


def test_a_changed_row_stops_issuance_while_the_rest_goes_on(attacked: Attacked) -> None:
    ca = attacked.ca
    signed = ca.client(OPERATOR).certificates.sign("server", server_csr("web.example.test"))
    token, auditor = new_token(ca), ca.client(AUDITOR)
    attacked.write(update(profiles).where(profiles.c.name == "server").values(current_version=7))
    attacked.look_again()
    error = refused(lambda: ca.client(OPERATOR).certificates.sign("server", server_csr("w2.example.test")))
    assert isinstance(error, errors.TrustTableAltered)
    assert "profiles/server" in error.message
    assert error.metadata["tables"] == "profiles"
    with pytest.raises(errors.TrustTableAltered):
        enroll(token, ca.directory / "enrolled", timeout=5)
    revoked = ca.client().certificates.revoke(signed.serial, CrlReason.SUPERSEDED)
    assert revoked.revocation_reason is CrlReason.SUPERSEDED
    assert ca.client().authorities.list()
    assert ca.client().certificates.get(signed.serial).serial == signed.serial
    [told] = [one for one in look(ca.settings) if one.check == "trust tables"]
    assert not told.ok, "doctor tells"
    assert "profiles/server" in told.message
    witness = ca.directory / "witness.json"
    with pytest.raises(errors.TrustTableAltered, match="profiles/server: changed"):
        verify_service_log(auditor.audit, witness)
    assert witness.exists(), "the log itself is complete"
    assert ocsp_status(ca, signed) is ocsp.OCSPCertStatus.REVOKED
    wait_for("a CRL lists it", lambda: is_on_a_crl(ca, signed))


def ocsp_status(ca: RunningCa, signed: SignedCertificate) -> ocsp.OCSPCertStatus:
    """What OCSP says of a certificate."""
    leaf, issuer = (x509.load_der_x509_certificate(der) for der in (signed.certificate_der, signed.chain_der[0]))
    body = ocsp.OCSPRequestBuilder().add_certificate(leaf, issuer, hashes.SHA1()).build().public_bytes(Encoding.DER)
    url = f"http://127.0.0.1:{ca.coordinator.http_port}/ocsp"
    asked = urllib.request.Request(url, body, {"Content-Type": "application/ocsp-request"})
    with urllib.request.urlopen(asked, timeout=20) as answer:
        return ocsp.load_der_ocsp_response(answer.read()).certificate_status


def is_on_a_crl(ca: RunningCa, signed: SignedCertificate) -> bool:
    """Whether a published CRL lists a certificate."""
    authority = ca.client().certificates.get(signed.serial).authority.removeprefix("authorities/")
    shards = ca.read(lambda tx: tx.revocations.shards()[authority])
    found = [ca.read(lambda tx, n=n: tx.revocations.published_list((authority, n))) for n in range(shards)]
    crls = [x509.load_der_x509_crl(one.der) for one in found if one is not None]
    return any(crl.get_revoked_certificate_by_serial_number(int(signed.serial, 16)) for crl in crls)


def test_root_sees_the_difference_and_seals_the_tables_anew(attacked: Attacked) -> None:
    socket = attacked.ca.settings.coordinator_socket
    attacked.write(update(profiles).where(profiles.c.name == "server").values(mac=b"\x01" + bytes(16)))
    attacked.look_again()
    assert not issues(attacked.ca)
    shown = attacked.ca.run(recover_trust_tables(socket, seal=False))
    assert shown["sealed"] is False
    assert list(shown["alterations"]) == [{"table": "profiles", "key": "server", "problem": "changed"}]
    assert not issues(attacked.ca)
    assert attacked.ca.run(recover_trust_tables(socket, seal=True))["sealed"] is True
    wait_for("issuance goes on", lambda: issues(attacked.ca))
    assert attacked.problems() == set()
    assert attacked.ca.client(AUDITOR).audit.verify().problems == ()

    def recorded() -> bool:
        acts = attacked.ca.client().ca.audit.list(method="keyreeve/local-socket/trust_tables")
        return any(
            ("altered", "profiles/server: changed") in (*act.record.targets, *act.record.results) for act in acts
        )

    wait_for("the audit log tells", recorded)


def test_removing_every_seal_is_not_a_first_start(attacked: Attacked) -> None:
    tables = [declared.table for declared in TRUST_TABLES.tables]
    attacked.write(*(update(table).values(mac=None) for table in tables), delete(HEADS))
    ca = attacked.restart(workers=0)
    assert "*: head" in attacked.problems()
    snapshot = ca.coordinator.issuance.snapshot()
    assert snapshot.control_issuers() == ()
    assert snapshot.operators == {}
    with pytest.raises(errors.StoreUnavailable, match="altered"):
        attacked.restart()
    attacked.restart(workers=0)


@pytest.fixture(params=["sqlite", "postgresql"], scope="module")
def shared(request: pytest.FixtureRequest) -> Iterator[Attacked]:
    """One CA for attacks that need no restart."""
    with place_for_ca(request.param, request, enroll=OPEN_TO_TESTS) as (directory, settings):
        ca = RunningCa(settings, directory, workers=1)
        ca.start()
        made = Attacked(ca, engine_of(settings))
        try:
            yield made
        finally:
            ca.stop()
            made.engine.dispose()


@pytest.fixture
def sealed_after(shared: Attacked) -> Iterator[Attacked]:
    """The same; what the attack has left is accepted afterwards."""
    yield shared
    shared.ca.run(recover_trust_tables(shared.ca.settings.coordinator_socket, seal=True))
    shared.look_again()
    assert shared.problems() == set()


@pytest.mark.parametrize("kind", ["opened", "put back"])
def test_a_closed_token_that_is_opened_again_enrolls_nobody(sealed_after: Attacked, kind: str) -> None:
    attacked, ca = sealed_after, sealed_after.ca
    token = new_token(ca)
    this = enrollment_tokens.c.token_id == token.token_id
    old = next(row for row in attacked.rows(enrollment_tokens) if row["token_id"] == token.token_id)
    ca.client().tokens.revoke(token.token_id.hex())
    values = old if kind == "put back" else {"state": "open", "ended_at": None}
    attacked.write(update(enrollment_tokens).where(this).values(**values))
    with pytest.raises(errors.TrustTableAltered):
        enroll(token, ca.directory / unique("enrolled"), timeout=5)


def test_a_used_approval_that_is_put_back_makes_no_admin(sealed_after: Attacked) -> None:
    attacked, ca, name = sealed_after, sealed_after.ca, unique("puppet")
    control = DualControl(ca.clock.now, on=True)
    identities = [ca.identity(path) for path in (ADMIN, "operators/admin/second")]
    for path in (ADMIN, "operators/admin/second"):
        ca.client(path)
        known = path.rpartition("/")[2]
        ca.write(lambda tx, known=known: tx.operators.update(replace(tx.operators.find(known), created_at=0)))
    ca.write(lambda tx: control.approve(tx, actor_of(tx, identities[0]), name, Role.ADMIN))
    [old] = attacked.rows(operator_approvals)
    assert ca.write(lambda tx: control.check(tx, identities[1], name, Role.ADMIN))
    attacked.write(insert(operator_approvals).values(**old))
    with pytest.raises(errors.TrustTableAltered):
        ca.write(lambda tx: control.check(tx, identities[1], name, Role.ADMIN))
    attacked.look_again()
    assert not issues(ca)


def test_a_blocked_key_that_is_deleted_is_not_certified_after_a_reload(sealed_after: Attacked) -> None:
    attacked, ca, key = sealed_after, sealed_after.ca, make_key()
    ca.client().certificates.block_key(read_csr(make_csr(key)).spki_sha256, "lost")
    attacked.write(delete(blocked_keys))
    attacked.look_again()
    error = refused(lambda: ca.client(OPERATOR).certificates.sign("server", server_csr("w.example.test", key=key)))
    assert isinstance(error, errors.TrustTableAltered)


def test_random_alterations_are_found_by_a_reload_and_widen_nobodys_rights(sealed_after: Attacked) -> None:
    ca, chance = sealed_after.ca, random.Random(16)
    tables = [declared.table for declared in TRUST_TABLES.tables]
    before = {table: sealed_after.rows(table) for table in tables}
    live_through_changes(ca, 2)
    states = {table: [*before[table], *sealed_after.rows(table)] for table in tables}
    now = {table: sealed_after.rows(table) for table in tables}
    keystore = open_keystore(ca.settings)
    seals = Seals.of(keystore)

    def load(connection: Any, watch: TrustWatch, known: IssuanceSnapshot | None) -> IssuanceSnapshot:
        tx = CaTransaction(
            connection, now=ca.clock.now(), writable=False, read_profile=profile_from_canonical, seals=seals
        )
        return load_snapshot(tx, keystore, url="http://ca.test", blocked=frozenset(), watch=watch, before=known)

    with sealed_after.engine.connect() as connection:
        watch = TrustWatch(TRUST_TABLES.listed)
        true = load(connection, watch, None)
        assert watch.found == ()
    tried = 0
    while tried < 40:
        table = chance.choice(tables)
        made = random_alteration(chance, table, now[table], states[table])
        if made is None:
            continue
        with sealed_after.engine.connect() as connection, connection.begin() as attempt:
            try:
                connection.execute(made[1])
            except DatabaseError:
                attempt.rollback()
                continue
            altered = load(connection, watch, true)
            if (
                made[0] != "change" or TRUST_TABLES.of(table).listed
            ):  # a changed row of another table is refused when used
                assert {one.table for one in watch.found} == {table.name}, (table.name, made[0])
                with pytest.raises(errors.TrustTableAltered):
                    watch.refuse()
            assert altered.operators.items() <= true.operators.items()
            assert altered.authorities.items() <= true.authorities.items()
            assert {*altered.control_issuers()} <= {*true.control_issuers()}
            assert watch.found or altered.known_keys.blocked >= true.known_keys.blocked
            attempt.rollback()
        with sealed_after.engine.connect() as connection:
            load(connection, watch, true)
        tried += 1


def random_alteration(
    chance: random.Random, table: Table, rows: Sequence[Mapping[str, Any]], old: Sequence[Mapping[str, Any]]
) -> tuple[str, Any] | None:
    """A change, a deletion, or an old state of one row; None where there is nothing of the kind."""
    kind = chance.choice(["change", "delete", "put back"])
    if not rows:
        return None
    row = chance.choice(rows)
    keys = [column.name for column in table.primary_key]
    this_row = and_(*(table.c[name] == row[name] for name in keys))
    if kind == "delete":
        return kind, delete(table).where(this_row)
    if kind == "put back":
        states = [one for one in old if all(one[name] == row[name] for name in keys) and one["mac"] != row["mac"]]
        if not states:
            return None
        return kind, update(table).where(this_row).values(**chance.choice(states))
    covered = [name for columns in TRUST_TABLES.of(table).column_sets for name in columns]
    name = chance.choice(covered)
    return kind, update(table).where(this_row).values({name: other_value(row[name], table.c[name], chance)})


def other_value(value: Any, column: Any, chance: random.Random) -> Any:
    if isinstance(value, bool):
        return not value
    kind = column.type.python_type
    if kind is int:
        return (value or 0) + chance.randint(1, 1000)
    if kind is bytes:
        return (value or b"") + chance.randbytes(1)
    return (value or "") + "x"


@pytest.mark.faults
def test_random_alterations_of_single_rows_are_each_found(attacked: Attacked) -> None:
    ca, chance = attacked.ca, random.Random(16)
    tables = [declared.table for declared in TRUST_TABLES.tables]
    before = {table: attacked.rows(table) for table in tables}
    live_through_changes(ca)
    states = {table: [*before[table], *attacked.rows(table)] for table in tables}
    store = ca.coordinator.issuance.store
    now = {table: attacked.rows(table) for table in tables}
    assert ca.run(store.read(lambda tx: tx.trust.verify())) == []
    tried: dict[str, int] = {}
    while sum(tried.values()) < ALTERATIONS:
        table = chance.choice(tables)
        made = random_alteration(chance, table, now[table], states[table])
        if made is None:
            continue
        kind, statement = made
        with attacked.engine.connect() as connection:
            attempt = connection.begin()
            try:
                try:
                    connection.execute(statement)
                except Exception:  # noqa: BLE001  # the database itself refuses it
                    continue
                found = verify_here(ca, connection)
                assert found, (table.name, kind, str(statement))
                assert all(one.table == table.name for one in found)
            finally:
                attempt.rollback()
        tried[kind] = tried.get(kind, 0) + 1
    assert min(tried.get(kind, 0) for kind in ("change", "delete", "put back")) >= ALTERATIONS // 20
    assert ca.run(store.read(lambda tx: tx.trust.verify())) == []


def verify_here(ca: RunningCa, connection: Any) -> Sequence[Any]:
    """Verify what a transaction sees that nobody else does."""
    return SqlTrust(connection, TRUST_TABLES, Seals.of(open_keystore(ca.settings)), lambda: None).verify()


def live_through_changes(ca: RunningCa, times: int = 3) -> None:
    """Make rows in every table, and change them."""
    admin = ca.client()
    for n in range(times):
        path = f"operators/auditor/{unique('aud')}"
        client = ca.client(path)
        assert client.operators.get("ann")
        if n:
            admin.operators.remove(path.rpartition("/")[2])
        token = new_token(ca)
        if n:
            admin.tokens.revoke(token.token_id.hex())
        signed = ca.client(OPERATOR).certificates.sign("server", server_csr(f"{unique('w')}.example.test"))
        admin.certificates.revoke(signed.serial, CrlReason.SUPERSEDED)
    admin.profiles.create(unique("mine"), admin.profiles.get("server").document)
    # A role that changes ends a person's certificate: not that of the operator whom other tests call as.
    changed = unique("changed")
    assert ca.client(f"operators/operator/{changed}").operators.get("ann")
    admin.operators.update(changed, OperatorRole.AUDITOR, address=address_of(ca))
    admin.operators.update(changed, OperatorRole.OPERATOR, address=address_of(ca))
    admin.issuance.halt("for a test")
    admin.issuance.resume("over")
