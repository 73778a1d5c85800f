"""Servers and clients in Java, Go, Node and Python with the product's files alone (docs/servers.md)."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from support.programs import find_program
from support.real_servers import (
    Files,
    Pair,
    Row,
    asked,
    assert_client_uses,
    assert_server_checks,
    assert_server_uses,
    free_port,
    python_server,
    running,
)

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]
PROGRAMS = Path(__file__).parents[2] / "fixtures" / "tls_programs"

Arguments = Callable[[Pair], list[object]]


def serves_and_gets(
    files: Files, language: str, command: list[str], arguments: Arguments, directory: Path, *, hangup: bool = False
) -> None:
    """Try a program of tests/fixtures/tls_programs as a server, then as a client."""
    port, server, client = free_port(), files.own_server(f"{language}-server"), files.own_client(f"{language}-client")
    serve = [*command, "serve", str(port), *map(str, arguments(server))]
    with running(serve, port, log := directory / "log") as process:

        def reload() -> None:
            if hangup:
                process.send_signal(signal.SIGHUP)

        assert_server_uses(files, port, server, log.read_text, reload)
        assert process.poll() is None

    def get(port: int) -> subprocess.CompletedProcess[str]:
        whole = [*command, "get", str(port), *map(str, arguments(client))]
        return subprocess.run(whole, capture_output=True, text=True, check=False, timeout=60)

    assert_client_uses(files, client, get)


def test_java(files: Files, tmp_path: Path) -> None:
    compiler = find_program("javac")
    subprocess.run([compiler, "-d", str(tmp_path), str(PROGRAMS / "Tls.java")], check=True)
    command = [compiler.removesuffix("c"), "-cp", str(tmp_path), "Tls"]
    serves_and_gets(
        files, "java", command, lambda pair: [pair.pkcs12, files.password, files.roots, files.crls], tmp_path
    )
    port, server = free_port(), files.own_server("java-ocsp")
    serve = [*command, "serve", str(port), *map(str, (server.pkcs12, files.password, files.roots, "ocsp"))]
    with running(serve, port, log := tmp_path / "ocsp-log"):
        assert_server_checks(files, port, log.read_text)
    Row(
        "Java",
        "`KeyStore` of `bundle.p12`; roots: `CertificateFactory` of `estate-bundle.pem`",
        "the same; `setNeedClientAuth(true)`",
        "`CertStore` of `crls.pem`, `PKIXBuilderParameters`",
        "a new `SSLContext` for new connections",
        "`PKIXRevocationChecker`",
    ).check()


def test_go(files: Files, tmp_path: Path) -> None:
    program = tmp_path / "tls"
    environment = os.environ | {"GOTOOLCHAIN": "local", "GOFLAGS": "", "CGO_ENABLED": "0"}
    build = [find_program("go"), "build", "-o", str(program), str(PROGRAMS / "tls.go")]
    subprocess.run(build, check=True, env=environment, cwd=tmp_path)
    serves_and_gets(
        files, "go", [str(program)], lambda pair: [pair.certificate, pair.key, files.roots, files.crls], tmp_path
    )
    Row(
        "Go",
        "`tls.LoadX509KeyPair`; `RootCAs` of `estate-bundle.pem`",
        "`ClientCAs`, `RequireAndVerifyClientCert`; `GetClientCertificate`",
        "`x509.ParseRevocationList` of `crls.pem` in `VerifyConnection`",
        "`GetCertificate` reads the files",
    ).check()


def test_node(files: Files, tmp_path: Path) -> None:
    command = [find_program("node"), str(PROGRAMS / "tls.js")]
    serves_and_gets(
        files,
        "node",
        command,
        lambda pair: [pair.certificate, pair.key, files.roots, files.crls],
        tmp_path,
        hangup=True,
    )
    Row(
        "Node",
        "`cert`, `key`; `ca: estate-bundle.pem`",
        "`requestCert`, `rejectUnauthorized`; clients: `cert`, `key`",
        "`crl`: the lists of `crls.pem`, one string each",
        "`server.setSecureContext()`",
    ).check()


CLIENT = """
import socket, ssl, sys
port, certificate, key, roots, crls = sys.argv[1:]
context = ssl.create_default_context(cafile=roots)
context.load_verify_locations(crls)
context.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN
context.load_cert_chain(certificate, key)
with socket.create_connection(("127.0.0.1", int(port))) as raw, context.wrap_socket(raw, server_hostname="localhost") as tls:
    tls.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")
    print(tls.recv(4096).decode())
"""


def test_python(files: Files) -> None:
    server, client = files.own_server("python-server"), files.own_client("python-client")
    with python_server(files, server) as running_server:
        assert asked(files, running_server.port, files.good).serial == server.serial
        assert not asked(files, running_server.port, files.revoked).accepted
        renewed = files.renew(server)
        running_server.context.load_cert_chain(server.certificate, server.key)
        again = asked(files, running_server.port, files.good)
        assert again.accepted, again.text
        assert again.serial == renewed

    def get(port: int) -> subprocess.CompletedProcess[str]:
        arguments = [str(each) for each in (port, client.certificate, client.key, files.roots, files.crls)]
        command = [sys.executable, "-c", CLIENT, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    assert_client_uses(files, client, get)
    Row(
        "Python",
        "`load_cert_chain(certificate.pem, key.pem)`; `cafile=estate-bundle.pem`",
        "`verify_mode = CERT_REQUIRED`",
        "`load_verify_locations(crls.pem)`, `VERIFY_CRL_CHECK_CHAIN`",
        "`load_cert_chain` again on the same context",
    ).check()
