"""Real servers and clients with the product's files alone: certificates, client certificates and CRLs."""

import os
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.control_plane import ControlPlane
from support.programs import find_program
from support.waiting import wait_for

NAME = "localhost"


@dataclass(frozen=True)
class Files:
    """What the product wrote."""

    directory: Path
    roots: Path

    @property
    def crls(self) -> Path:
        return self.directory / "crls.pem"


@pytest.fixture(scope="module")
def files(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Files:
    """A server's certificate, a good and a revoked client's, and all CRLs in one file."""
    directory = tmp_path_factory.mktemp("servers")

    def run(*arguments: object) -> None:
        done = control_plane.run(*arguments)
        assert done.code == 0, done.err

    run("cert", "issue", NAME, "--san", "ip:127.0.0.1", "--out", directory / "server", "--form", "combined")
    for client in ("good", "revoked"):
        where = directory / client
        run("cert", "issue", f"{client}.example.test", "--profile", "client", "--common-name", client, "--out", where)
    run("cert", "issue", "gone.example.test", "--san", f"dns:{NAME}", "--out", directory / "gone")
    run("cert", "revoke", directory / "revoked" / "certificate.pem", "--reason", "keyCompromise")
    run("cert", "revoke", directory / "gone" / "certificate.pem", "--reason", "superseded")
    found = Files(directory, control_plane.context.estate_bundle)

    def listed() -> bool:
        run("crl", "fetch", "--all", "--out", found.crls)
        return _text_of_crls(found.crls).count(b"Serial Number:") >= 2

    wait_for("both revocations on the full list", listed, 30)
    return found


def _text_of_crls(path: Path) -> bytes:
    told = b""
    for block in path.read_text().split("-----END X509 CRL-----\n")[:-1]:
        pem = block + "-----END X509 CRL-----\n"
        told += subprocess.run(
            ["openssl", "crl", "-noout", "-text"], input=pem.encode(), capture_output=True, check=True
        ).stdout
    return told


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(command: list[str], port: int, log: Path) -> Iterator[None]:
    with log.open("wb") as output:
        server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
    try:

        def listens() -> bool:
            assert server.poll() is None, log.read_text()
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        wait_for(f"{command[0]} listens", listens, 20)
        yield
    finally:
        server.terminate()
        server.wait(20)


def asked(files: Files, port: int, client: str) -> tuple[bool, str]:
    """Ask an HTTPS server with a client's certificate; whether the server accepts it, and what the server says."""
    context = ssl.create_default_context(cafile=str(files.roots))
    context.load_cert_chain(files.directory / client / "certificate.pem", files.directory / client / "key.pem")
    try:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=10) as raw,
            context.wrap_socket(raw, server_hostname=NAME) as tls,
        ):
            tls.sendall(b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n")
            said = b"".join(iter(lambda: tls.recv(4096), b""))
    except (ssl.SSLError, ConnectionError) as refused:
        return False, str(refused)
    text = said.decode(errors="replace")
    return "200 OK" in text, text


def test_openssl_checks_the_whole_path_against_all_lists(files: Files) -> None:
    for client, good in (("good", True), ("revoked", False)):
        folder = files.directory / client
        done = subprocess.run(
            [
                *("openssl", "verify", "-crl_check_all", "-x509_strict", "-no-CApath", "-no-CAstore"),
                *("-CAfile", str(files.roots), "-CRLfile", str(files.crls)),
                *("-untrusted", str(folder / "chain.pem"), str(folder / "certificate.pem")),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode == 0) is good, done.stderr
        assert good or "certificate revoked" in done.stderr


def test_nginx_accepts_the_good_client_and_refuses_the_revoked_one(files: Files, tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "nginx.conf").write_text(f"""
daemon off; pid {tmp_path}/pid; error_log {tmp_path}/error.log; user root;
events {{}}
http {{
  access_log off; client_body_temp_path {tmp_path}/b; proxy_temp_path {tmp_path}/p; fastcgi_temp_path {tmp_path}/f;
  uwsgi_temp_path {tmp_path}/u; scgi_temp_path {tmp_path}/s;
  server {{
    listen 127.0.0.1:{port} ssl;
    ssl_certificate {files.directory}/server/certificate.pem; ssl_certificate_key {files.directory}/server/key.pem;
    ssl_client_certificate {files.roots}; ssl_verify_client on; ssl_verify_depth 3; ssl_crl {files.crls};
    return 200 "hello $ssl_client_s_dn\\n";
  }}
}}
""")
    command = [
        find_program("nginx"),
        "-p",
        str(tmp_path),
        "-c",
        str(tmp_path / "nginx.conf"),
        "-e",
        str(tmp_path / "error.log"),
    ]
    with running(command, port, tmp_path / "log"):
        let_in, said = asked(files, port, "good")
        assert let_in, said + (tmp_path / "error.log").read_text()
        assert "hello CN=good" in said
        let_in, said = asked(files, port, "revoked")
        assert not let_in, said


def test_haproxy_takes_the_combined_file_and_the_lists(files: Files, tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "haproxy.cfg").write_text(f"""
global
  maxconn 20
defaults
  mode http
  timeout client 5s
  timeout connect 5s
  timeout server 5s
frontend f
  bind 127.0.0.1:{port} ssl crt {files.directory}/server/combined.pem ca-file {files.roots} verify required crl-file {files.crls}
  http-request return status 200 content-type text/plain string "hello"
""")
    with running([find_program("haproxy"), "-db", "-f", str(tmp_path / "haproxy.cfg")], port, tmp_path / "log"):
        let_in, said = asked(files, port, "good")
        assert let_in, said + (tmp_path / "log").read_text()
        let_in, said = asked(files, port, "revoked")
        assert not let_in, said


def test_postgresql_logs_in_the_common_name_and_refuses_the_revoked_one(files: Files) -> None:
    import psycopg

    from support import postgres

    binaries = Path(find_program("postgres")).parent
    place = Path("/tmp") / f"keyreeve-pg-tls-{os.getpid()}"
    place.mkdir(mode=0o755)
    try:
        if os.geteuid() == 0:
            shutil.chown(place, "nobody")
        data, port = place / "data", free_port()
        postgres._run([binaries / "initdb", "-D", data, "-U", "keyreeve", "--auth=trust", "--no-sync"])
        for source, target, mode in (
            (files.directory / "server" / "certificate.pem", "server.crt", 0o644),
            (files.directory / "server" / "key.pem", "server.key", 0o600),
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
                admin.execute("CREATE ROLE good LOGIN")
                admin.execute("CREATE ROLE revoked LOGIN")

            def user(client: str) -> str:
                folder = files.directory / client
                with psycopg.connect(
                    f"host=localhost hostaddr=127.0.0.1 port={port} user={client} dbname=postgres sslmode=verify-full "
                    f"sslrootcert={files.roots} sslcert={folder}/certificate.pem sslkey={folder}/key.pem"
                ) as connection:
                    [found] = connection.execute("SELECT current_user").fetchone() or [""]
                    return str(found)

            assert user("good") == "good"
            with pytest.raises(psycopg.OperationalError):
                user("revoked")
        finally:
            postgres._run([binaries / "pg_ctl", "-D", data, "-m", "fast", "-w", "stop"])
    finally:
        shutil.rmtree(place, ignore_errors=True)


def test_curl_and_python_refuse_a_revoked_server(files: Files, tmp_path: Path) -> None:
    for folder, good in (("server", True), ("gone", False)):
        port = free_port()
        where = files.directory / folder
        command = [
            *("openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-www", "-quiet"),
            *("-key", str(where / "key.pem"), "-cert", str(where / "certificate.pem")),
            *("-cert_chain", str(where / "chain.pem")),
        ]
        with running(command, port, tmp_path / folder):
            done = subprocess.run(
                [
                    *("curl", "--silent", "--show-error", "--cacert", str(files.roots), "--crlfile", str(files.crls)),
                    *("--noproxy", "*", "--connect-to", f"{NAME}:{port}:127.0.0.1:{port}", f"https://{NAME}:{port}/"),
                ],
                capture_output=True,
                text=True,
                check=False,
                timeout=20,
            )
            assert (done.returncode == 0) is good, done.stderr
            context = ssl.create_default_context(cafile=str(files.roots))
            context.load_verify_locations(files.crls)
            context.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN
            with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
                if good:
                    context.wrap_socket(raw, server_hostname=NAME).close()
                else:
                    with pytest.raises(ssl.SSLCertVerificationError, match="revoked"):
                        context.wrap_socket(raw, server_hostname=NAME)


def test_nss_takes_the_full_list_of_an_authority(control_plane: ControlPlane, files: Files, tmp_path: Path) -> None:
    certutil, crlutil = find_program("certutil"), find_program("crlutil")
    (tmp_path / "password").write_text("")
    database = f"sql:{tmp_path}"

    def nss(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    assert nss(certutil, "-N", "-d", database, "--empty-password").returncode == 0
    chain = files.directory / "good" / "chain.pem"
    assert (
        nss(certutil, "-A", "-d", database, "-n", "root", "-t", "CT,C,C", "-a", "-i", str(files.roots)).returncode == 0
    )
    assert nss(certutil, "-A", "-d", database, "-n", "issuing", "-t", ",,", "-a", "-i", str(chain)).returncode == 0
    out = tmp_path / "full.crl"
    done = control_plane.run("crl", "fetch", "estate-issuing-1", "--full", "--out", out)
    assert done.code == 0, done.err
    told = nss(crlutil, "-I", "-d", database, "-i", str(out))
    assert told.returncode == 0, told.stderr
    for client, good in (("good", True), ("revoked", False)):
        file = files.directory / client / "certificate.pem"
        nss(certutil, "-A", "-d", database, "-n", client, "-t", ",,", "-a", "-i", str(file))
        verdict = nss(certutil, "-V", "-d", database, "-n", client, "-u", "C")
        assert (verdict.returncode == 0) is good, verdict.stdout + verdict.stderr


def test_crl_fetch_writes_pem_and_der_and_standard_output(control_plane: ControlPlane, tmp_path: Path) -> None:
    for form, read in (("pem", "PEM"), ("der", "DER")):
        done = control_plane.run("crl", "fetch", "estate-issuing-1", "--form", form, "--out", tmp_path / form)
        assert done.code == 0, done.err
        told = subprocess.run(
            ["openssl", "crl", "-noout", "-text", "-inform", read, "-in", str(tmp_path / form)],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert "Issuing Distribution Point: critical" in told
    piped = control_plane.run("crl", "fetch", "--all", "--out", "-")
    assert piped.code == 0
    assert piped.out.startswith("-----BEGIN X509 CRL-----")
    told = _told(piped.out.encode())
    assert "Issuing Distribution Point" not in told


def _told(pem: bytes) -> str:
    return subprocess.run(
        ["openssl", "crl", "-noout", "-text"], input=pem, capture_output=True, check=True
    ).stdout.decode()
