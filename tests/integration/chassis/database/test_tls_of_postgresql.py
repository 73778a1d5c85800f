"""PostgreSQL with TLS: with `database.verify_tls` only a server of the right name and CA gets a connection."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from pydantic import SecretStr
from sqlalchemy import text

from keyreeve_ca.store.schema import SCHEMA
from keyreeve_chassis.database.locking import DatabaseRefused
from keyreeve_chassis.database.opening import writing_database
from keyreeve_chassis.processes.refusals import StartRefused
from keyreeve_chassis.settings.sections import DatabaseServerSettings, DatabaseSettings
from support import postgres
from support.ports import free_port
from support.programs import find_program, needs

pytestmark = needs("postgres")


@dataclass(frozen=True)
class Ca:
    """A CA made for the test, and its certificate in a file."""

    name: x509.Name
    key: ec.EllipticCurvePrivateKey
    file: Path


def new_ca(file: Path) -> Ca:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, file.stem)])
    made = certificate(name, name, key).add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    file.write_bytes(made.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))
    return Ca(name, key, file)


def certificate(name: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder(issuer, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(hours=1))
    )


def lay_server_certificate(ca: Ca, directory: Path) -> None:
    """A certificate for `localhost`, and its key, where the server reads them."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "db")])
    names = x509.SubjectAlternativeName([x509.DNSName("localhost")])
    made = certificate(name, ca.name, key).add_extension(names, critical=False).sign(ca.key, hashes.SHA256())
    files = {
        "server.crt": made.public_bytes(Encoding.PEM),
        "server.key": key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    }
    for file, content in files.items():
        (directory / file).write_bytes(content)
        (directory / file).chmod(0o600)
        shutil.chown(directory / file, directory.owner(), directory.group())


@dataclass(frozen=True)
class TlsServer:
    port: int
    ca: Path
    other_ca: Path
    state: Path

    def open(self, parameters: str = "", *, host: str = "localhost") -> bool:
        """Open the database as a service does; whether the connection has TLS."""
        url = f"postgresql://keyreeve@{host}:{self.port}/postgres?{parameters}"
        database = DatabaseSettings(url=SecretStr(url), verify_tls=True)
        settings = DatabaseServerSettings(state_directory=self.state, database=database)
        with writing_database(settings, SCHEMA, threads=1) as opened:
            asked = text("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
            return bool(opened.read_here(lambda connection: connection.execute(asked).scalar()))


@pytest.fixture(scope="module")
def server() -> Iterator[TlsServer]:
    with tempfile.TemporaryDirectory(prefix="keyreeve-tls-", dir="/tmp") as name:
        directory = Path(name)
        directory.chmod(0o755)
        if os.geteuid() == 0:
            shutil.chown(directory, "nobody")
        ca, other = new_ca(directory / "ca.pem"), new_ca(directory / "other.pem")
        programs, data, port = Path(find_program("postgres")).parent, directory / "data", free_port()
        postgres._run([programs / "initdb", "-D", data, "-U", "keyreeve", "--auth=trust", "-E", "UTF8", "--no-sync"])
        lay_server_certificate(ca, data)
        with (data / "postgresql.conf").open("a") as config:
            config.write(f"listen_addresses='localhost'\nport={port}\nunix_socket_directories='{directory}'\n")
            config.write("fsync=off\nssl=on\n")
        control = [programs / "pg_ctl", "-D", data, "-w"]
        postgres._run([*control, "-l", directory / "log", "-t", "60", "start"])
        try:
            yield TlsServer(port, ca.file, other.file, directory / "state")
        finally:
            postgres._run([*control, "-m", "immediate", "stop"])


@pytest.fixture(autouse=True)
def environment(server: TlsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """That of a container of the chart."""
    monkeypatch.setenv("PGSSLMODE", "verify-full")
    monkeypatch.setenv("PGSSLROOTCERT", str(server.ca))


def test_a_server_of_the_right_ca_and_name_gets_a_connection_with_tls(server: TlsServer) -> None:
    assert server.open()


def test_a_server_of_another_ca_gets_none(server: TlsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGSSLROOTCERT", str(server.other_ca))
    with pytest.raises(DatabaseRefused, match="certificate verify failed"):
        server.open()


def test_a_server_of_another_name_gets_none(server: TlsServer) -> None:
    with pytest.raises(DatabaseRefused, match="does not match host name"):
        server.open(host="127.0.0.1")


def test_no_url_can_leave_the_verification_out(server: TlsServer) -> None:
    with pytest.raises(StartRefused, match="verify_tls"):
        server.open("sslmode=require")
