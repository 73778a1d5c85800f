"""nginx, HAProxy, stunnel and PostgreSQL with the product's files alone; each test checks its line of docs/servers.md."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from support import postgres
from support.programs import find_program
from support.real_servers import (
    OCSP,
    Files,
    Row,
    assert_server_checks,
    assert_server_uses,
    free_port,
    nginx_serving,
    running,
)
from support.waiting import wait_for

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]


def test_nginx(files: Files, tmp_path: Path) -> None:
    server, log = files.own_server("nginx"), tmp_path / "crl/error.log"
    with nginx_serving(files, server, tmp_path / "crl", f"ssl_crl {files.crls};") as (port, command):

        def reload() -> None:
            files.renew(server, "--then", " ".join([*command, "-s", "reload"]))

        assert_server_uses(files, port, server, log.read_text, reload)
    with nginx_serving(files, server, tmp_path / "ocsp", OCSP) as (port, _):
        assert_server_checks(files, port, (tmp_path / "ocsp/error.log").read_text)
    Row(
        "nginx",
        "`ssl_certificate certificate.pem`, `ssl_certificate_key key.pem`",
        "`ssl_client_certificate estate-bundle.pem`, `ssl_verify_depth 3`",
        "`ssl_crl crls.pem`",
        "`cert renew DIR --then 'nginx -s reload'`",
        "clients: `ssl_ocsp on`; its own: `ssl_stapling on`",
    ).check()


def test_haproxy(files: Files, tmp_path: Path) -> None:
    haproxy, port, server = find_program("haproxy"), free_port(), files.own_server("haproxy")
    (tmp_path / "haproxy.cfg").write_text(f"""
global
  maxconn 20
defaults
  mode http
  timeout client 5s
  timeout connect 5s
  timeout server 5s
frontend f
  bind 127.0.0.1:{port} ssl crt {server.combined} ca-file {files.roots} verify required crl-file {files.crls}
  http-request return status 200 content-type text/plain string "hello"
""")
    command = [haproxy, "-W", "-db", "-f", str(tmp_path / "haproxy.cfg")]
    with running(command, port, log := tmp_path / "log") as process:
        assert_server_uses(files, port, server, log.read_text, lambda: process.send_signal(signal.SIGUSR2))
        assert process.poll() is None
    Row(
        "HAProxy",
        "`crt combined.pem`",
        "`ca-file estate-bundle.pem verify required`",
        "`crl-file crls.pem`",
        "`cert renew DIR --then 'systemctl reload haproxy'` (SIGUSR2)",
    ).check()


def test_stunnel(files: Files, tmp_path: Path) -> None:
    stunnel, port, ocsp_port = find_program("stunnel4"), free_port(), free_port()
    server = files.own_server("stunnel")
    # Reads the whole request first: stunnel drops the answer of a program that ends with something unread.
    lines = (
        "#!/bin/sh",
        "while read -r line && [ ${#line} -gt 1 ]; do :; done",
        r"printf 'HTTP/1.0 200 OK\r\n\r\nhello\n'",
    )
    (tmp_path / "answer").write_text("\n".join(lines) + "\n")
    (tmp_path / "answer").chmod(0o755)
    (tmp_path / "stunnel.conf").write_text("foreground = yes\npid =\n")
    for accept, revocation in ((port, f"CRLfile = {files.crls}"), (ocsp_port, "OCSPaia = yes")):
        with (tmp_path / "stunnel.conf").open("a") as configuration:
            configuration.write(f"""
[https-{accept}]
accept = {accept}
exec = {tmp_path}/answer
execArgs = answer
cert = {server.certificate}
key = {server.key}
CAfile = {files.roots}
verifyChain = yes
{revocation}
""")
    with running([stunnel, str(tmp_path / "stunnel.conf")], port, log := tmp_path / "log") as process:
        assert_server_uses(files, port, server, log.read_text, lambda: process.send_signal(signal.SIGHUP))
        assert_server_checks(files, ocsp_port, log.read_text)
        assert process.poll() is None
    Row(
        "stunnel",
        "`cert = certificate.pem`, `key = key.pem`",
        "`CAfile = estate-bundle.pem`, `verifyChain = yes`",
        "`CRLfile = crls.pem`",
        "`cert renew DIR --then 'systemctl reload stunnel4'` (SIGHUP)",
        "`OCSPaia = yes`",
    ).check()


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that the user of PostgreSQL can reach; PostgreSQL does not run as root."""
    made = Path("/tmp") / f"keyreeve-pg-tls-{os.getpid()}"
    made.mkdir(mode=0o755)
    if os.geteuid() == 0:
        shutil.chown(made, "nobody")
    yield made
    shutil.rmtree(made, ignore_errors=True)


def test_postgresql(files: Files, place: Path) -> None:
    binaries, data, port = Path(find_program("postgres")).parent, place / "data", free_port()
    postgres._run([binaries / "initdb", "-D", data, "-U", "keyreeve", "--auth=trust", "--no-sync"])
    server = files.own_server("postgresql")
    for source, target, mode in (
        (server.certificate, "server.crt", 0o644),
        (server.key, "server.key", 0o600),
        (files.roots, "root.crt", 0o644),
        (files.crls, "root.crl", 0o644),
    ):
        shutil.copy(source, data / target)
        (data / target).chmod(mode)
        shutil.chown(data / target, data.owner(), data.group())
    with (data / "postgresql.conf").open("a") as config:
        config.write(
            f"listen_addresses='127.0.0.1'\nport={port}\nunix_socket_directories='{place}'\nfsync=off\nssl=on\n"
            "ssl_ca_file='root.crt'\nssl_crl_file='root.crl'\n"
        )
    (data / "pg_hba.conf").write_text("local all all trust\nhostssl all all 127.0.0.1/32 cert\n")
    try:
        postgres._run([binaries / "pg_ctl", "-D", data, "-l", place / "log", "-w", "-t", "60", "start"])
    except RuntimeError:
        pytest.fail((place / "log").read_text())
    try:
        with psycopg.connect(f"host={place} port={port} user=keyreeve dbname=postgres", autocommit=True) as admin:
            for user in ("good", "revoked"):
                admin.execute(f"CREATE ROLE {user} LOGIN")  # type: ignore[call-overload]

            def user(client: str) -> str:
                folder = files.directory / client
                with psycopg.connect(
                    f"host=localhost hostaddr=127.0.0.1 port={port} user={client} dbname=postgres sslmode=verify-full "
                    f"sslrootcert={files.roots} sslcert={folder}/certificate.pem sslkey={folder}/key.pem sslcrl={files.crls}"
                ) as connection:
                    [found] = connection.execute("SELECT current_user").fetchone() or [""]
                    return str(found)

            assert user("good") == "good"
            with pytest.raises(psycopg.OperationalError):
                user("revoked")
            before = (data / "server.crt").read_bytes()
            owners = [(data / name).stat() for name in ("server.crt", "server.key")]
            files.run("cert", "renew", data / "server.crt", "--key", data / "server.key")
            after = [(data / name).stat() for name in ("server.crt", "server.key")]
            assert [(each.st_uid, each.st_mode) for each in owners] == [(each.st_uid, each.st_mode) for each in after]
            admin.execute("SELECT pg_reload_conf()")
            renewed = (data / "server.crt").read_text().split("-----END")[0]
            assert renewed not in before.decode()
            wait_for("the renewed certificate", lambda: renewed in _presented(port), 20)
            assert user("good") == "good"
    finally:
        postgres._run([binaries / "pg_ctl", "-D", data, "-m", "fast", "-w", "stop"])
    Row(
        "PostgreSQL",
        "`ssl_cert_file`, `ssl_key_file`; clients: `sslrootcert=estate-bundle.pem sslmode=verify-full`",
        "`ssl_ca_file`, `cert` in pg_hba.conf (CN = user); clients: `sslcert`, `sslkey`",
        "`ssl_crl_file`; clients: `sslcrl`",
        "`cert renew server.crt --key server.key`, `SELECT pg_reload_conf()`",
    ).check()


def _presented(port: int) -> str:
    """What openssl prints of a PostgreSQL server's certificate."""
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-starttls", "postgres"]
    return subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=20
    ).stdout
