"""Requests made by the `openssl` program, signed by the command line, and used by independent programs."""

import json
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.control_plane import ControlPlane

NAME = "web.example.test"
KEYS = {
    "p256": ("ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
    "p384": ("ec", "-pkeyopt", "ec_paramgen_curve:P-384"),
    "rsa2048": ("rsa:2048",),
    "rsa3072": ("rsa:3072",),
    "ed25519": ("ed25519",),
}


@pytest.fixture(scope="module", params=KEYS)
def signed(
    request: pytest.FixtureRequest, control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A directory with k.pem and r.csr, made by openssl, and c.pem, signed by the CA; tests only read there."""
    directory = tmp_path_factory.mktemp(request.param)
    openssl(
        *("req", "-new", "-newkey", *KEYS[request.param], "-nodes", "-keyout", "k.pem", "-subj", f"/CN={NAME}"),
        *("-addext", f"subjectAltName=DNS:{NAME}", "-out", "r.csr"),
        cwd=directory,
    )
    done = control_plane.run(
        "cert", "sign", "--csr", directory / "r.csr", "--profile", "server", "--out", directory / "c.pem"
    )
    assert done.code == 0, done.err
    return directory


def test_openssl_accepts_the_certificate_strictly(signed: Path, control_plane: ControlPlane) -> None:
    told = openssl(
        *("verify", "-x509_strict", "-purpose", "sslserver", "-verify_hostname", NAME, "-no-CApath", "-no-CAstore"),
        *("-CAfile", str(control_plane.context.estate_bundle), "-untrusted", "c.pem", "c.pem"),
        cwd=signed,
    )
    assert told.strip() == "c.pem: OK"


def test_curl_accepts_a_server_that_presents_it(signed: Path, control_plane: ControlPlane) -> None:
    with s_server(signed) as port:
        url = f"https://{NAME}:{port}/"
        trusted = curl("--cacert", control_plane.context.estate_bundle, "--resolve", f"{NAME}:{port}:127.0.0.1", url)
        assert trusted.returncode == 0, trusted.stderr
        assert "s_server" in trusted.stdout
        # The control hierarchy vouches for nothing that is issued to the outside.
        refused = curl("--cacert", control_plane.context.bundle, "--resolve", f"{NAME}:{port}:127.0.0.1", url)
        assert refused.returncode == 60


def test_the_file_is_what_a_server_loads_in_one_piece(signed: Path, control_plane: ControlPlane) -> None:
    program = (
        "import ssl, sys; c = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER); c.load_cert_chain('c.pem', 'k.pem'); "
        "print(open('c.pem').read().count('BEGIN CERTIFICATE'))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=signed, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "2"


def test_verify_of_the_command_line_agrees(signed: Path, control_plane: ControlPlane) -> None:
    assert control_plane.run("cert", "verify", signed / "c.pem", "--for", NAME).code == 0
    other = control_plane.run("cert", "verify", signed / "c.pem", "--for", "other.example.test")
    assert other.code == 1
    assert "CERTIFICATE_UNTRUSTED" in other.err


def test_another_languages_developer_signs_with_reflection_and_the_contexts_files(
    control_plane: ControlPlane, tmp_path: Path
) -> None:
    openssl(
        *("req", "-new", "-newkey", *KEYS["p256"], "-nodes", "-keyout", "k.pem", "-subj", "/", "-outform", "DER"),
        *("-addext", f"subjectAltName=DNS:{NAME}", "-out", "r.der"),
        cwd=tmp_path,
    )
    csr = subprocess.run(["base64", "-w0", "r.der"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    # As a program in any language reads it: plain JSON, paths relative to the file.
    context = json.loads(control_plane.state_directory.context.read_text())
    files = {
        name: control_plane.state_directory.root / context[name]
        for name in ("bundle", "estate_bundle", "certificate", "key")
    }
    request = {
        "item": {"profile": "profiles/server", "csr": csr},
        "request_id": "0190aaaa-0000-7000-8000-000000000001",
    }
    command = [
        *(str(Path(sys.executable).with_name("buf")), "curl", "--protocol", "grpc", "--timeout", "20s"),
        *("--cacert", str(files["bundle"]), "--cert", str(files["certificate"]), "--key", str(files["key"])),
        *("--servername", f"ca.svc.{context['trust_domain']}", "--data", json.dumps(request)),
        f"https://{context['endpoints']['ca'][0]}/keyreeve.ca.v1.CertificateService/SignCertificate",
    ]
    environment = os.environ | {"HOME": str(tmp_path), "NO_PROXY": "127.0.0.1"}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment, timeout=60
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    for name, der in (("leaf", answer["certificate"]["certificateDer"]), ("chain", answer["chainDer"][0])):
        block = f"-----BEGIN CERTIFICATE-----\n{der}\n-----END CERTIFICATE-----\n"
        pem = subprocess.run(["fold", "-w64"], input=block, capture_output=True, text=True, check=True).stdout
        (tmp_path / f"{name}.pem").write_text(pem)
    openssl(
        *("verify", "-x509_strict", "-CAfile", str(files["estate_bundle"]), "-untrusted", "chain.pem", "leaf.pem"),
        cwd=tmp_path,
    )


def openssl(*arguments: str, cwd: Path) -> str:
    done = subprocess.run(["openssl", *arguments], cwd=cwd, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def curl(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = ["curl", "--silent", "--show-error", "--max-time", "30", "--noproxy", "*", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@contextmanager
def s_server(directory: Path) -> Iterator[int]:
    """An `openssl s_server` with c.pem and k.pem on a free port; it is listening when this returns."""
    leaf, _, chain = (directory / "c.pem").read_text().partition("-----END CERTIFICATE-----\n")
    assert leaf
    (directory / "chain.pem").write_text(chain)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [
            *("openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-www"),
            *("-key", "k.pem", "-cert", "c.pem", "-cert_chain", "chain.pem"),
        ],
        cwd=directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        _wait_for_line(server, b"ACCEPT")
        yield port
    finally:
        server.terminate()
        server.wait(10)
        assert server.stdout is not None
        server.stdout.close()


def _wait_for_line(server: subprocess.Popen[bytes], line: bytes, seconds: float = 20.0) -> None:
    assert server.stdout is not None
    said, until = b"", time.monotonic() + seconds
    while line not in said:
        left = until - time.monotonic()
        assert left > 0, said.decode()
        assert select.select([server.stdout], [], [], left)[0], said.decode()
        read = os.read(server.stdout.fileno(), 4096)
        assert read, said.decode()
        said += read
