"""Known secrets pass through every interface; then all files, logs and databases are searched for them."""

import base64
import contextlib
import os
import random
import re
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
    load_pem_private_key,
)
from sqlalchemy import text

from keyreeve.cli.supervision.local_services import SERVICES, Service, read_addresses, write_config
from keyreeve.cli.supervision.state_directory import StateDirectory
from keyreeve.enrollment_token import EnrollmentKeys, EnrollmentToken
from keyreeve_ca.store.schema import SCHEMA
from keyreeve_chassis.database.engine import postgresql, sqlite_reader
from keyreeve_chassis.keys.sealed import SealedKeyStore
from support.control_plane import ControlPlane, Done
from support.postgres import Server
from support.trace_receiver import receiving_traces
from support.waiting import wait_for

PASSWORD = "canary-" + uuid.uuid4().hex
"""Of the database, in the configuration file."""


@dataclass
class Search:
    """Where to look, and for what."""

    control_plane: ControlPlane
    outputs: list[str] = field(default_factory=list)
    canaries: dict[str, set[bytes]] = field(default_factory=dict)

    def run(self, *arguments: object, code: int | None = 0, given: bytes | None = None) -> Done:
        """Run a command that ends with this code, and search what it says."""
        done = self.control_plane.run(*arguments, given=given)
        assert code is None or done.code == code, (arguments, done.err)
        self.outputs += [done.out, done.err]
        return done

    def add(self, what: str, *secrets: bytes) -> None:
        """Search for these bytes as they are, in hexadecimal and in both kinds of base64."""
        forms = self.canaries.setdefault(what, set())
        for secret in secrets:
            forms |= {secret, secret.hex().encode(), secret.hex().upper().encode()}
            # Where a text lies among others its base64 begins at any of three places; its middle is then the same.
            for offset in range(3):
                middle = base64.b64encode(b"\0" * offset + secret)[8:-8]
                forms |= {middle, middle.replace(b"+", b"-").replace(b"/", b"_")} if len(middle) > 16 else set()

    def add_key(self, what: str, private: bytes) -> None:
        """A private key (PKCS #8), by the number that it is."""
        key = load_der_private_key(private, None)
        if isinstance(key, Ed25519PrivateKey):
            self.add(what, key.private_bytes_raw())
        else:
            assert isinstance(key, EllipticCurvePrivateKey)
            self.add(what, key.private_numbers().private_value.to_bytes(key.key_size // 8))

    def add_key_file(self, file: Path) -> None:
        key = load_pem_private_key(file.read_bytes(), None)
        self.add_key(str(file), key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()))
        self.canaries[str(file)].add(file.read_bytes().split(b"\n")[1])

    def add_token(self, file: Path) -> None:
        written = file.read_text().strip()
        token = EnrollmentToken.parse(written)
        keys = EnrollmentKeys.of(token.secret, token.token_id)
        self.add("a token", token.secret, keys.server, keys.client, keys.result)
        self.canaries["a token"] |= {written.encode(), written[40:100].encode()}

    def hits(self, places: dict[str, bytes]) -> list[tuple[str, str]]:
        places = {"what commands said": "".join(self.outputs).encode(), **places}
        return [
            (what, where)
            for what, forms in self.canaries.items()
            for where, data in places.items()
            if any(form in data for form in forms)
        ]


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> str:
    if request.param == "sqlite":
        return "sqlite:///ca.db"
    server: Server = request.getfixturevalue("postgresql_server")
    name = f"canaries_{uuid.uuid4().hex}"
    server.execute(f"CREATE DATABASE {name}")
    return server.url(name).replace("keyreeve@", f"keyreeve:{PASSWORD}@")


def files_of_the_database(control_plane: ControlPlane, url: str) -> Iterator[Path]:
    """On PostgreSQL those of the whole server, with its write-ahead log; SQLite's are among the control plane's."""
    if not url.startswith("sqlite"):
        directory = Path(url.partition("host=")[2])
        for part in ("data/base", "data/pg_wal"):
            yield from (directory / part).rglob("*")
        yield directory / "log"
    yield from control_plane.state_directory.root.rglob("*")


def own_secrets(search: Search, url: str) -> None:
    """What the service itself keeps: its keys, unsealed."""
    state = search.control_plane.state_directory.state("ca")
    kek = (state / "kek").read_bytes()
    search.add("the key-encryption key", kek)
    store = SealedKeyStore(kek, "keyreeve-ca")
    search.add(
        "the vault's root key",
        (search.control_plane.state_directory.state("credentials") / "vault-keys" / "root").read_bytes(),
    )
    search.add("a derived key", store.derive("page tokens"), store.derive("renewal nonces"))
    search.add_key_file(state / "recovery.key")
    if url.startswith("sqlite"):
        engine = sqlite_reader(state / "ca.db", connections=1)
    else:
        engine = postgresql(url, schema=SCHEMA.name, application_name="test", connections=1)
    with engine.connect() as connection:
        sealed = connection.execute(text("SELECT key_id, sealed FROM keys")).all()
    engine.dispose()
    assert len(sealed) > 4
    for row in sealed:
        search.add_key(f"key {row.key_id}", store.unseal("key", row.key_id, row.sealed))


@pytest.mark.thorough_on("sqlite")
@pytest.mark.faults
@pytest.mark.timeout(400)
def test_no_secret_is_in_logs_audit_errors_metrics_traces_the_database_or_processes(
    database: str, own_services: ControlPlane, tmp_path: Path
) -> None:
    control_plane, search = own_services, Search(own_services)
    search.canaries["the database's password"] = {PASSWORD.encode()}
    control_plane.state_directory.make()
    with receiving_traces() as traces:
        configs = write_configs(control_plane.state_directory, database, traces.endpoint)
        done = control_plane.up(OTEL_BSP_SCHEDULE_DELAY="100")
        search.outputs += [done.out, done.err]
        live_through(search, tmp_path)
        metrics = {f"metrics of {one.name}": metrics_of(control_plane.state_directory, one) for one in SERVICES}
        assert all(b"grpc_server" in page for page in metrics.values())
        wait_for("spans", lambda: {"keyreeve.ca.v1.EnrollmentService/Enroll"} <= traces.names)
        wait_for("spans", lambda: {"keyreeve.ca.v1.CertificateService/RenewCertificate"} <= traces.names)
        wait_for("spans", lambda: {"keyreeve.credentials.v1.EntryService/CreateEntry"} <= traces.names)
        pids = list(processes(control_plane))
        places = {
            f"/proc/{pid}/{name}": Path(f"/proc/{pid}/{name}").read_bytes()
            for pid in pids
            for name in ("cmdline", "environ")
        }
        for pid in pids[1:]:
            assert re.search(r"Max core file size +1 +1 ", Path(f"/proc/{pid}/limits").read_text()), pid
        own_secrets(search, database)
        control_plane.down()
        places |= metrics
        places["traces"] = b"".join(one.SerializeToString() for one in traces.requests)
    state = control_plane.state_directory.state("ca")
    root_key = control_plane.state_directory.state("credentials") / "vault-keys" / "root"
    kept = {root_key, state / "kek", state / "recovery.key", control_plane.state_directory.key, *configs}
    for file in files_of_the_database(control_plane, database):
        with contextlib.suppress(FileNotFoundError):  # PostgreSQL serves other tests, which drop theirs
            if file.is_file() and file not in kept:
                places[str(file)] = file.read_bytes()
    assert any(place.endswith(".log") for place in places)
    assert search.hits(places) == []
    planted = base64.b64encode(b"x" + (state / "kek").read_bytes())
    assert search.hits({"planted": planted}) == [("the key-encryption key", "planted")], "it does find what is there"


def write_configs(state_directory: StateDirectory, database: str, traces: str) -> list[Path]:
    """Settings of all services that log and trace everything; on PostgreSQL each has a schema of the database."""
    files: list[Path] = []
    taken: set[int] = set()
    for service in SERVICES:
        write_config(
            state_directory,
            service,
            trust_domain="dev.localhost",
            first_port=0,
            rng=random.SystemRandom(),
            database=database if not database.startswith("sqlite") else "",
            taken=taken,
        )
        taken |= set(read_addresses(state_directory, service).ports)
        config = state_directory.config(service.name)
        config.write_text(config.read_text() + f"tracing:\n  endpoint: {traces}\nlog:\n  level: debug\n  calls: true\n")
        files.append(config)
    return files


def metrics_of(state_directory: StateDirectory, service: Service) -> bytes:
    port = read_addresses(state_directory, service).metrics_port
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as page:
        found: bytes = page.read()
        return found


def processes(control_plane: ControlPlane) -> Iterator[int]:
    """The supervisor and all processes of all services."""
    supervisor = control_plane.supervisor()
    assert supervisor is not None
    parents = {
        int(entry.name): int(re.sub(r"^.*\) . ", "", (entry / "stat").read_text()).split()[0])
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit()
    }
    found = [supervisor]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    assert len(found) > 3 + len(SERVICES), "the CA's parts, and the other services"
    return iter(found)


def put_into_vault(search: Search) -> None:
    """Passwords on every way into the vault, well and badly, and through a re-keying."""
    array, owner = ("--array", "sales"), ("--owner", "o=Indigo/cn=Bill")
    passwords = [f"canary-vault-{number}-{uuid.uuid4().hex}".encode() for number in range(5)]
    search.add("a password of the vault", *passwords)
    first, second, third, refused, imported = passwords
    search.run("vault", "put", *array, *owner, "--user", "bill", given=first)
    search.run("vault", "edit", *array, *owner, "--new-secret", given=second)
    search.run("vault", "put", *array, *owner, "--resource", ".../_wns/INDIGO", "--user", "bill", given=third)
    search.run("vault", "put", *array, *owner, "--user", "bill", given=refused, code=None)
    search.run("vault", "put", *array, "--owner", "nobody", "--user", "bill", given=refused, code=None)
    line = b'--anon --resource .../_wns/INDIGO --resuser guest --respass "' + imported
    search.run("vault", "import", "-", *array, "--batch", given=line, code=None)
    search.run("vault", "import", "-", *array, "--batch", given=line + b'"')
    search.run("vault", "import", "-", *array, "--batch", given=line + b'"', code=None)
    search.run("vault", "list", *array, "-o", "json")
    search.run("vault", "rotate", *array, "--watch")
    shown = search.control_plane.run("vault", "get", *array, *owner)
    assert shown.out.encode() == second, shown.err
    search.run("vault", "seal", "drill")
    search.run("vault", "get", *array, *owner, code=None)
    search.run("vault", "unseal", "drill")


def live_through(search: Search, tmp_path: Path) -> None:
    """Everything that has to do with a secret, well and badly."""
    file = tmp_path / "token"
    search.run("token", "create", "workloads/web/one", "--save", file)
    search.add_token(file)
    secret = file.read_text().strip()
    at = len(secret) // 2
    wrong = tmp_path / "wrong"
    wrong.write_text(secret[:at] + ("A" if secret[at] != "A" else "B") + secret[at + 1 :])
    forged = EnrollmentToken.parse(secret)
    another = tmp_path / "another"
    another.write_text(
        EnrollmentToken(
            forged.token_id,
            os.urandom(32),
            forged.root_sha256,
            forged.expires_at,
            forged.identity,
            forged.address,
        ).text()
    )
    search.add_token(another)
    enrollee = tmp_path / "enrollee"
    search.run("enroll", wrong, "--dir", tmp_path / "no-1", "--timeout", "5", code=None)
    search.run("enroll", another, "--dir", tmp_path / "no-2", "--timeout", "5", code=None)
    search.run("enroll", "--dir", enrollee, given=secret.encode())
    search.run("enroll", file, "--dir", tmp_path / "no-3", "--timeout", "5", code=4)
    context = enrollee / "context.json"
    search.run("cert", "issue", "web.example.test", "--context", context, "--out", tmp_path / "tls")
    search.run("cert", "renew", "--context", context)
    search.run("whoami", "--context", context)
    invitation = search.control_plane.run("operator", "invite", "dora", "--role", "auditor", "-q")
    assert invitation.code == 0, invitation.err
    invited = tmp_path / "invited"
    invited.write_text(invitation.out)
    search.add_token(invited)
    search.run("operator", "accept", "--dir", tmp_path / "dora", given=invited.read_bytes())
    search.run("audit", "list", "--context", tmp_path / "dora" / "context.json")
    recovered = search.control_plane.run("recover", "operator", "carl", "-q")
    assert recovered.code == 0, recovered.err
    (tmp_path / "recovered").write_text(recovered.out)
    search.add_token(tmp_path / "recovered")
    put_into_vault(search)
    # A secret where a name should be is refused before it goes anywhere; what the command itself repeats is the caller's.
    assert search.control_plane.run("cert", "show", secret).code != 0
    assert search.control_plane.run("token", "revoke", secret).code != 0
    assert search.control_plane.run("cert", "issue", secret, "--out", tmp_path / "no-4").code != 0
    put_into_launches_and_files(search)
    search.run("settings", code=None)
    search.run("doctor", code=None)
    search.run("status")
    mark = uuid.uuid4().hex
    search.run("cert", "show", mark, code=None)
    with search.control_plane.client() as client:
        wait_for("the log", lambda: list(client.audit.list(resource=f"certificates/{mark}")))
    export = tmp_path / "export.jsonl"
    search.run("audit", "export", export)
    search.outputs.append(export.read_text())
    for key in [*(tmp_path / "tls").glob("*key*"), *enrollee.glob("**/*key*"), tmp_path / "dora" / "key.pem"]:
        search.add_key_file(key)
    search.add_key_file(search.control_plane.state_directory.key)


def put_into_launches_and_files(search: Search) -> None:
    """Passwords, keys and passphrases of the credentials service, well and badly."""
    password, passphrase = (f"canary-{what}-{uuid.uuid4().hex}".encode() for what in ("password", "passphrase"))
    search.add("a password of the vault", password)
    search.add("a passphrase", passphrase)
    entry = ("--array", "sales", "--owner", "o=Indigo/cn=Ada")
    prague = ".../_dns/prague.test"
    search.run("vault", "put", *entry, "--resource", prague, "--user", "ada", given=password)
    search.run("vault", "put", *entry, "--resource", prague, "--user", "ada", given=password, code=1)
    xterm = ("--kind", "application", "--runs-on", "x")
    search.run("vault", "object", "put", "o=Indigo/cn=Xterm", "--array", "sales", *xterm)
    launch = (*entry, "--application", "o=Indigo/cn=Xterm", "--application-server", prague)
    search.run("vault", "resolve", *launch)
    search.run("vault", "explain", *launch)
    space = ("--array", "sales", "--server", "core1.test")
    search.run("vault", "file", "selfsigned", "web", "CN:web.test", *space, "--key-type", "p256")
    written = search.control_plane.run("vault", "file", "get", "web.key", *space)
    key = load_pem_private_key(written.out.encode(), None)
    search.add_key("a key file", key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()))
    search.canaries["a key file"].add(written.out.encode().split(b"\n")[1])
    export = ("vault", "file", "pkcs12", "export", "web.key", "web.crt", "web.p12")
    search.run(*export, *space, given=passphrase)
    convert = ("vault", "file", "pkcs12", "convert", "web.p12")
    search.run(*convert, "copy", *space, given=passphrase)
    search.run(*convert, "copy", *space, given=passphrase, code=1)
    search.run("vault", "file", "unlock", "web.p12", *space, given=passphrase, code=None)
