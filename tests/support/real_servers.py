"""Files of the product for servers and clients, and the servers and clients that try them."""

import os
import re
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from pathlib import Path

from support.control_plane import ControlPlane
from support.programs import find_program
from support.waiting import wait_for

NAME = "localhost"
OCSP = "ssl_ocsp on; ssl_stapling on;"
"""nginx asks the CA's OCSP responder about its clients, and staples the answer about its own certificate."""
PAGE = Path(__file__).parents[2] / "docs" / "servers.md"


@dataclass(frozen=True)
class Pair:
    """A directory of `cert issue`."""

    directory: Path

    @property
    def certificate(self) -> Path:
        return self.directory / "certificate.pem"

    @property
    def key(self) -> Path:
        return self.directory / "key.pem"

    @property
    def chain(self) -> Path:
        return self.directory / "chain.pem"

    @property
    def combined(self) -> Path:
        return self.directory / "combined.pem"

    @property
    def pkcs12(self) -> Path:
        return self.directory / "bundle.p12"

    @property
    def serial(self) -> str:
        return _serial(self.certificate)


@dataclass(frozen=True)
class Files:
    """What the product wrote: clients and servers, good and revoked, roots, and the CRLs of all CAs in one file."""

    control_plane: ControlPlane
    directory: Path

    @property
    def roots(self) -> Path:
        return self.control_plane.context.estate_bundle

    @property
    def crls(self) -> Path:
        return self.directory / "crls.pem"

    @property
    def password(self) -> Path:
        """The file with the password of PKCS #12 files."""
        return self.directory / "password"

    @property
    def good(self) -> Pair:
        return Pair(self.directory / "good")

    @property
    def revoked(self) -> Pair:
        return Pair(self.directory / "revoked")

    @property
    def server(self) -> Pair:
        return Pair(self.directory / "server")

    @property
    def revoked_server(self) -> Pair:
        return Pair(self.directory / "revoked-server")

    def run(self, *arguments: object) -> None:
        done = self.control_plane.run(*arguments)
        assert done.code == 0, done.err

    def own_server(self, name: str) -> Pair:
        """A server's certificate that no other test renews."""
        return self._issue(f"{name}.example.test", name, "--san", f"dns:{NAME}", "--san", "ip:127.0.0.1")

    def own_client(self, name: str) -> Pair:
        return self._issue(f"{name}.example.test", name, "--profile", "client", "--common-name", name)

    def renew(self, pair: Pair, *options: str) -> str:
        """Renew a directory; return the new serial number."""
        before = pair.serial
        self.run("cert", "renew", pair.directory, "--password-file", self.password, *options)
        assert pair.serial != before
        return pair.serial

    def make(self) -> "Files":
        self.password.write_text("a password\n")
        self._issue("server.example.test", "server", "--san", f"dns:{NAME}", "--san", "ip:127.0.0.1")
        self._issue("gone.example.test", "revoked-server", "--san", f"dns:{NAME}", "--san", "ip:127.0.0.1")
        for client in ("good", "revoked"):
            self.own_client(client)
        gone = (self.revoked, self.revoked_server)
        for pair in gone:
            self.run("cert", "revoke", pair.certificate, "--reason", "superseded")

        def listed() -> bool:
            self.run("crl", "fetch", "--all", "--out", self.crls)
            text = text_of_crls(self.crls.read_bytes()).lower()
            return all(f"serial number: {pair.serial}" in text for pair in gone)

        wait_for("both revocations on the full list", listed, 30)
        return self

    def _issue(self, name: str, directory: str, *options: str) -> Pair:
        pair = Pair(self.directory / directory)
        forms = ("--form", "combined", "--form", "pkcs12", "--password-file", self.password)
        self.run("cert", "issue", name, "--out", pair.directory, *forms, *options)
        return pair


@dataclass(frozen=True)
class Row:
    """A line of the table in docs/servers.md: how a program uses the product's files."""

    program: str
    certificate: str
    client_certificate: str
    revocation: str
    renewal: str
    ocsp: str = "—"

    def check(self) -> None:
        """Compare with the page; with KEYREEVE_WRITE_TABLES=1, write it there."""
        line = "| " + " | ".join(getattr(self, field.name) for field in fields(self)) + " |"
        page = PAGE.read_text()
        if os.environ.get("KEYREEVE_WRITE_TABLES"):
            row = re.compile(rf"^\| {re.escape(self.program)} \|.*$", re.MULTILINE)
            end = "<!-- end -->"
            PAGE.write_text(row.sub(lambda _: line, page) if row.search(page) else page.replace(end, f"{line}\n{end}"))
            return
        assert line in page.splitlines(), f"`make servers` writes {PAGE}"


def _serial(certificate: Path) -> str:
    command = ["openssl", "x509", "-noout", "-serial", "-in", str(certificate)]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return told.strip().removeprefix("serial=").lower()


def text_of_crls(pem: bytes) -> str:
    """What openssl prints of all CRLs in one PEM file."""
    blocks = re.findall(rb"-----BEGIN X509 CRL-----.*?-----END X509 CRL-----\n", pem, re.DOTALL)
    command = ["openssl", "crl", "-noout", "-text"]
    return "".join(
        subprocess.run(command, input=one, capture_output=True, check=True).stdout.decode() for one in blocks
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(command: list[str], port: int, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A server process that listens on a port of loopback."""
    with log.open("wb") as output:
        server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
    try:

        def listens() -> bool:
            assert server.poll() is None, log.read_text()
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        wait_for(f"{command[0]} listens", listens, 60)
        yield server
    finally:
        server.terminate()
        server.wait(20)


@contextmanager
def nginx_serving(files: Files, server: Pair, directory: Path, revocation: str) -> Iterator[tuple[int, list[str]]]:
    """nginx that greets clients whose certificates it has checked; its port, and its command.

    `revocation` has the directives about that; errors go to `error.log` in the new directory.
    """
    nginx, port = find_program("nginx"), free_port()
    directory.mkdir()
    configuration, errors = directory / "nginx.conf", directory / "error.log"
    configuration.write_text(f"""
daemon off; pid {directory}/pid; error_log {errors}; user root;
events {{}}
http {{
  access_log off; client_body_temp_path {directory}/b; proxy_temp_path {directory}/p; fastcgi_temp_path {directory}/f;
  uwsgi_temp_path {directory}/u; scgi_temp_path {directory}/s;
  server {{
    listen 127.0.0.1:{port} ssl;
    ssl_certificate {server.certificate}; ssl_certificate_key {server.key};
    ssl_client_certificate {files.roots}; ssl_verify_client on; ssl_verify_depth 3; {revocation}
    return 200 "hello $ssl_client_s_dn\\n";
  }}
}}
""")
    command = [nginx, "-p", str(directory), "-c", str(configuration), "-e", str(errors)]
    with running(command, port, directory / "log"):
        yield port, command


@dataclass(frozen=True)
class Answer:
    """What an HTTPS server made of a client: its answer, or how the connection ended, and the server's certificate."""

    accepted: bool
    text: str
    serial: str


def asked(files: Files, port: int, client: Pair) -> Answer:
    """Ask an HTTPS server with a client's certificate."""
    context = ssl.create_default_context(cafile=str(files.roots))
    context.load_cert_chain(client.certificate, client.key)
    serial = ""
    try:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=20) as raw,
            context.wrap_socket(raw, server_hostname=NAME) as tls,
        ):
            serial = _serial_of(tls)
            tls.sendall(b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n")
            text = b"".join(iter(lambda: tls.recv(4096), b"")).decode(errors="replace")
    except (ssl.SSLError, ConnectionError) as refused:
        return Answer(accepted=False, text=str(refused), serial=serial)
    return Answer("200 OK" in text, text, serial)


def _serial_of(tls: ssl.SSLSocket) -> str:
    peer = tls.getpeercert()
    return str(peer["serialNumber"]).lower() if peer else ""


def assert_server_uses(
    files: Files, port: int, server: Pair, log: Callable[[], str], reload: Callable[[], None]
) -> None:
    """Whether a server has its certificate, accepts the good client, refuses the revoked one, and takes a renewal."""
    good = asked(files, port, files.good)
    assert good.accepted, good.text + log()
    assert good.serial == server.serial
    refused = asked(files, port, files.revoked)
    assert not refused.accepted, refused.text
    files.renew(server)
    reload()
    wait_for("the renewed certificate", lambda: asked(files, port, files.good).serial == server.serial, 30)
    again = asked(files, port, files.good)
    assert again.accepted, again.text + log()
    assert not asked(files, port, files.revoked).accepted


def assert_server_checks(files: Files, port: int, log: Callable[[], str]) -> None:
    """Whether a server accepts the good client and refuses the revoked one, without a CRL."""
    good = asked(files, port, files.good)
    assert good.accepted, good.text + log()
    refused = asked(files, port, files.revoked)
    assert not refused.accepted, refused.text


def assert_client_uses(files: Files, client: Pair, get: Callable[[int], "subprocess.CompletedProcess[str]"]) -> None:
    """Whether a client presents its certificate, accepts the good server, refuses the revoked one, and is renewed."""
    with python_server(files, files.server) as good:
        done = get(good.port)
        assert f"hello {client.serial}" in done.stdout, done.stdout + done.stderr
        renewed = files.renew(client)
        done = get(good.port)
        assert f"hello {renewed}" in done.stdout, done.stdout + done.stderr
    with python_server(files, files.revoked_server) as gone:
        done = get(gone.port)
        assert "hello" not in done.stdout, done.stdout
        assert done.returncode != 0


@dataclass(frozen=True)
class PythonServer:
    """An HTTPS server of Python's `ssl` in a thread."""

    port: int
    context: ssl.SSLContext


@contextmanager
def python_server(files: Files, server: Pair) -> Iterator[PythonServer]:
    """Answers `hello` and the serial number of the client's certificate, which it checks against the CRLs."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(files.roots))
    context.load_verify_locations(files.crls)
    context.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(server.certificate, server.key)
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                raw, _ = listener.accept()
            except OSError:
                return
            raw.settimeout(20)
            with suppress(OSError), context.wrap_socket(raw, server_side=True) as tls:
                tls.recv(4096)
                tls.sendall(f"HTTP/1.0 200 OK\r\n\r\nhello {_serial_of(tls)}\n".encode())

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield PythonServer(listener.getsockname()[1], context)
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(20)
