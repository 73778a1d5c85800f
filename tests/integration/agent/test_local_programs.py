"""Local programs for real: nginx and PostgreSQL present a new certificate without a restart, and are looked at for it."""

import asyncio
import os
import pwd
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from keyreeve.errors import ProgramNotReloaded
from keyreeve_agent.material.directory import MaterialDirectory
from keyreeve_agent.material.values import Material
from keyreeve_agent.programs.ports import LocalProgram, Probe, ProbeProtocol
from keyreeve_agent.programs.probing import presented_certificate
from keyreeve_agent.programs.reloading import ProgramReloader, run_bounded
from support.agent_world import TestArrayCa, epoch_of, material_of
from support.peer_certificates import TRUST_DOMAIN
from support.ports import free_port
from support.programs import find_program
from support.waiting import wait_for

NAME = f"one.{TRUST_DOMAIN}"
OLD, NEW = TestArrayCa.make(), TestArrayCa.make()


def material(*cas: TestArrayCa) -> Material:
    return material_of(cas[0].peer(NAME), cas[0], epoch_of(1, *cas), tuple(one.crl() for one in cas))


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that other users may enter."""
    directory = Path(tempfile.mkdtemp(prefix="keyreeve-agent-", dir="/tmp"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


def https_status(port: int, client: TestArrayCa, trusted: Path) -> str:
    """The first line of nginx's answer to a client with a certificate of this CA."""
    context = ssl.create_default_context(cafile=str(trusted))
    leaf = client.peer(f"client.{TRUST_DOMAIN}")
    with tempfile.NamedTemporaryFile() as pem:
        pem.write(leaf.pem + leaf.key_pem)
        pem.flush()
        context.load_cert_chain(pem.name)
    with (
        socket.create_connection(("127.0.0.1", port), 5) as connection,
        context.wrap_socket(connection, server_hostname=NAME) as tls,
    ):
        tls.sendall(f"GET / HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\n\r\n".encode())
        return tls.recv(4096).split(b"\r\n")[0].decode()


async def test_nginx_presents_the_new_certificate_and_accepts_the_new_ca_without_a_restart(place: Path) -> None:
    port, peer = free_port(), MaterialDirectory(place / "peer")
    peer.write(material(OLD))
    (place / "logs").mkdir()
    config = place / "nginx.conf"
    config.write_text(f"""
pid {place}/nginx.pid; error_log {place}/logs/error.log; worker_processes 1; daemon on;
events {{ worker_connections 64; }}
http {{
  access_log off; client_body_temp_path {place}/t1; proxy_temp_path {place}/t2; fastcgi_temp_path {place}/t3;
  uwsgi_temp_path {place}/t4; scgi_temp_path {place}/t5;
  server {{
    listen 127.0.0.1:{port} ssl; server_name {NAME};
    ssl_certificate {peer.current}/certificate.pem; ssl_certificate_key {peer.current}/key.pem;
    ssl_client_certificate {peer.current}/bundle.pem; ssl_crl {peer.current}/crl.pem; ssl_verify_client on;
    location / {{ return 200 "hello"; }}
  }}
}}
""")
    command = (find_program("nginx"), "-p", str(place), "-c", str(config))
    await run_bounded("nginx", (*command, "-e", str(place / "logs/error.log")), 10)
    program = LocalProgram(
        "nginx",
        (*command, "-e", str(place / "logs/error.log"), "-s", "reload"),
        probe=Probe(f"127.0.0.1:{port}"),
    )
    reloader = ProgramReloader([program])
    try:
        pid = int((place / "nginx.pid").read_text())
        assert "200" in https_status(port, OLD, peer.current / "bundle.pem")
        assert "400" in https_status(port, NEW, peer.current / "bundle.pem")
        for new in (material(OLD, NEW), material(NEW, OLD)):
            peer.write(new)
            assert await reloader.load(new) == {}
            assert presented_certificate(Probe(f"127.0.0.1:{port}"), 5) == new.certificate_der
        assert "200" in https_status(port, NEW, peer.current / "bundle.pem")
        assert int((place / "nginx.pid").read_text()) == pid
    finally:
        os.kill(int((place / "nginx.pid").read_text()), signal.SIGTERM)
        wait_for("nginx has ended", lambda: not (place / "nginx.pid").exists())


@pytest.fixture
def postgresql(place: Path) -> Iterator[tuple[int, Path, str | None, int]]:
    """A server of its own with TLS: port, directory of its copy, its user, process id."""
    postgres = Path(find_program("postgres"))
    owner = "nobody" if os.geteuid() == 0 else None
    identity = pwd.getpwnam(owner) if owner else None

    who = {} if identity is None else {"user": identity.pw_uid, "group": identity.pw_gid}
    data, copy, port = place / "data", place / "copy", free_port()
    data.mkdir(mode=0o700)
    if identity is not None:
        os.chown(data, identity.pw_uid, identity.pw_gid)
    MaterialDirectory(copy, owner).write(material(OLD))
    initdb = [
        postgres.parent / "initdb",
        "-D",
        data,
        "-U",
        "me",
        "--auth=trust",
        "--no-sync",
        "--locale=C",
        "-E",
        "UTF8",
    ]
    subprocess.run(initdb, check=True, capture_output=True, cwd="/", **who)
    options = {
        "listen_addresses": "127.0.0.1",
        "port": str(port),
        "unix_socket_directories": "",
        "ssl": "on",
        "ssl_cert_file": f"{copy}/current/certificate.pem",
        "ssl_key_file": f"{copy}/current/key.pem",
        "ssl_ca_file": f"{copy}/current/bundle.pem",
        "fsync": "off",
    }
    arguments = [text for key, value in options.items() for text in ("-c", f"{key}={value}")]
    process = subprocess.Popen(
        [postgres, "-D", data, *arguments],
        cwd="/",
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        **who,
    )

    def serves() -> bool:
        try:
            return bool(presented_certificate(Probe(f"127.0.0.1:{port}", ProbeProtocol.POSTGRESQL), 1))
        except OSError:
            return False

    try:
        wait_for("PostgreSQL serves", serves, 30)
        yield port, copy, owner, process.pid
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(20)


async def test_postgresql_presents_the_new_certificate_from_a_copy_that_its_user_owns(
    postgresql: tuple[int, Path, str | None, int],
) -> None:
    port, copy, owner, pid = postgresql
    program = LocalProgram(
        "postgresql",
        ("/bin/kill", "-HUP", str(pid)),
        probe=Probe(f"127.0.0.1:{port}", ProbeProtocol.POSTGRESQL),
        directory=copy,
        owner=owner,
    )
    new = material(NEW, OLD)
    assert await ProgramReloader([program]).load(new) == {}
    assert presented_certificate(Probe(f"127.0.0.1:{port}", ProbeProtocol.POSTGRESQL), 5) == new.certificate_der
    assert MaterialDirectory(copy).read() == new


async def test_a_program_that_keeps_the_old_certificate_is_named() -> None:
    program = LocalProgram("web", ("/bin/true",), timeout=0.3, probe=Probe("127.0.0.1:1"))
    told = await ProgramReloader([program], present=lambda *_: b"old").load(material(OLD))
    assert told == {"web": "web at 127.0.0.1:1: it presents another certificate after 0.3 s"}


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (("/bin/false",), "ended with 1"),
        (("/no/such/program",), "cannot run"),
        (("/bin/sleep", "60"), "has not ended after 0.2 s"),
    ],
)
async def test_a_reload_command_is_bounded_and_its_failure_is_said(command: tuple[str, ...], expected: str) -> None:
    began = asyncio.get_running_loop().time()
    with pytest.raises(ProgramNotReloaded, match=expected):
        await run_bounded("web", command, 0.2)
    assert asyncio.get_running_loop().time() - began < 5


async def test_what_a_reload_command_has_started_is_killed_with_it(tmp_path: Path) -> None:
    started = tmp_path / "pid"
    with pytest.raises(ProgramNotReloaded):
        await run_bounded("web", ("/bin/sh", "-c", f"sleep 60 & echo $! > {started}; wait"), 0.3)
    wait_for("the child has ended", lambda: not Path(f"/proc/{started.read_text().strip()}/fd").exists())


async def test_no_shell_sees_the_command(tmp_path: Path) -> None:
    output = await run_bounded("echo", ("/bin/echo", "$HOME; touch", str(tmp_path / "made")), 5)
    assert output.decode().startswith("$HOME; touch")
    assert not (tmp_path / "made").exists()
