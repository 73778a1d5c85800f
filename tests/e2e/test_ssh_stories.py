"""Debian's ssh and sftp do what runbooks of the appliance do, against `keyreeve up`."""

import base64
import hashlib
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_public_key
from cryptography.hazmat.primitives.serialization.ssh import SSHPublicKeyTypes

from keyreeve.audit.record import Record
from keyreeve.cli.supervision.local_services import SERVICES, is_free, read_addresses
from keyreeve.errors import MemberExists
from keyreeve.membership_values import Server
from keyreeve.values import OperatorRole
from support.control_plane import ControlPlane
from support.ssh_gateway import make_key
from support.waiting import wait_for

SERVER = "ssh-1.example.test"
NOTHING: Any = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)


@dataclass(frozen=True)
class Login:
    """An operator's key, registered, and where to log in with it."""

    directory: Path
    port: int
    name: str
    fingerprint: str
    key: str = "key"

    def argv(self, program: str, *arguments: str) -> list[str]:
        chosen = (
            f"IdentityFile={self.directory / self.key}",
            f"UserKnownHostsFile={self.directory / 'known_hosts'}",
            "HostKeyAlias=gateway",
            "IdentitiesOnly=yes",
            "BatchMode=yes",
            f"SetEnv=KEYREEVE_SERVER={SERVER}",
        )
        options = [part for option in chosen for part in ("-o", option)]
        port = "-P" if program == "sftp" else "-p"
        return [program, "-F", "none", *options, port, str(self.port), *arguments]

    def ssh(self, command: str) -> "subprocess.CompletedProcess[str]":
        argv = self.argv("ssh", "operator@127.0.0.1", command)
        return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL)

    def sftp(self, *lines: str) -> "subprocess.CompletedProcess[str]":
        argv = self.argv("sftp", "-b", "-", "operator@127.0.0.1")
        return subprocess.run(
            argv, capture_output=True, text=True, timeout=60, check=False, input="".join(f"{line}\n" for line in lines)
        )


@pytest.fixture
def login(all_services: ControlPlane, tmp_path: Path) -> Iterator[Login]:
    [gateway] = [service for service in SERVICES if service.name == "gateway"]
    port = read_addresses(all_services.state_directory, gateway).ssh_port
    assert port is not None
    wait_for("SSH is served", lambda: not is_free(port))
    make_key(tmp_path / "key")
    with all_services.client() as client:
        with suppress(MemberExists):  # tests of all processes share the control plane
            client.membership.arrays.create(Server(SERVER, "127.0.0.1:5427", "5.40"))
        name = f"olga-{uuid.uuid4().hex[:8]}"
        client.operators.invite(name, OperatorRole.OPERATOR)
        key = client.operators.register_ssh_key(name, (tmp_path / "key.pub").read_text().strip())
        host_key = client.credentials.host_keys.get()
        encoded = base64.b64encode(host_key.public_key).decode()
        (tmp_path / "known_hosts").write_text(f"gateway {host_key.algorithm} {encoded}\n")
        made = Login(tmp_path, port, name, key.key.fingerprint)
        # A service refuses the tickets of an operator of whom it has not heard from the CA.
        wait_for("the services know the operator", lambda: made.ssh("pki list").returncode == 0)
        yield made


@pytest.mark.slow
def test_a_request_is_made_by_ssh_and_fetched_by_sftp(all_services: ControlPlane, login: Login, tmp_path: Path) -> None:
    made = login.ssh("pki csr web CN:web.example.test")
    assert made.returncode == 0, made.stderr
    fetched = login.sftp(f"get web.csr {tmp_path}/web.csr", "ls -1")
    assert fetched.returncode == 0, fetched.stderr
    refused = login.sftp(f"get web.key {tmp_path}/web.key")  # no policy lets operators read keys for this purpose
    assert (refused.returncode, "Permission denied" in refused.stderr) == (1, True)
    checked = subprocess.run(
        ["openssl", "req", "-in", tmp_path / "web.csr", "-noout", "-verify", "-subject"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "web.example.test" in checked.stdout
    with all_services.client() as client:

        def reads() -> list[Record]:
            in_vault = [one.record for one in client.credentials.audit.list()]
            found = [record for record in in_vault if record.method.endswith("KeyFileService/GetFile")]
            return [record for record in found if record.subject.endswith(login.name)]

        records = wait_for("two records", lambda: reads() if len(reads()) > 1 else None)
    assert {record.caller.split("/")[4] for record in records} == {"gateway"}


@pytest.mark.slow
def test_a_login_ends_within_five_seconds_once_its_key_is_removed(all_services: ControlPlane, login: Login) -> None:
    argv = login.argv("ssh", "-tt", "operator@127.0.0.1")
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL) as shell:
        assert shell.stdout is not None
        assert b"keyreeve>" in shell.stdout.read(len("keyreeve> "))
        with all_services.client() as client:
            client.operators.remove_ssh_key(login.name, login.fingerprint)
        began = time.monotonic()
        shell.wait(30)
        assert time.monotonic() - began < 5
    assert login.ssh("pki list").returncode == 255


@pytest.mark.slow
def test_several_commands_and_transfers_share_a_connection_and_its_session(
    all_services: ControlPlane, login: Login, tmp_path: Path
) -> None:
    wait_for("earlier sessions are closed", lambda: not sessions_of(all_services, login))
    shared = ("-o", f"ControlPath={tmp_path}/c", "-o", "ControlMaster=auto", "-o", "ControlPersist=30")
    command = login.argv("ssh", *shared, "operator@127.0.0.1", "pki list")
    try:
        assert subprocess.run(command, **NOTHING, timeout=60, check=False).returncode == 0
        at_once = [subprocess.Popen(command, **NOTHING) for _ in range(4)]
        listing = login.argv("sftp", *shared, "operator@127.0.0.1")
        done = subprocess.run(listing, input=b"ls -1", stdout=subprocess.DEVNULL, timeout=60, check=False)
        assert ([one.wait(60) for one in at_once], done.returncode) == ([0] * 4, 0)
        assert len(sessions_of(all_services, login)) == 1
    finally:
        subprocess.run(
            login.argv("ssh", *shared, "-O", "exit", "operator@127.0.0.1"), **NOTHING, timeout=60, check=False
        )


@pytest.mark.slow
def test_a_connection_that_drops_during_an_upload_leaves_no_file(
    all_services: ControlPlane, login: Login, tmp_path: Path
) -> None:
    (tmp_path / "big.crt").write_bytes(b"x" * 1_000_000)
    argv = login.argv("sftp", "-vvv", "-l", "800", "-b", "-", "operator@127.0.0.1")
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdin=pipe, stdout=subprocess.DEVNULL, stderr=pipe) as upload:
        assert upload.stdin is not None
        assert upload.stderr is not None
        upload.stdin.write(f"put {tmp_path}/big.crt\n".encode())
        upload.stdin.flush()
        assert any(b"SSH2_FXP_WRITE" in line for line in upload.stderr)
        assert sessions_of(all_services, login)
        upload.kill()
    wait_for("the session is closed", lambda: not sessions_of(all_services, login))
    assert "big.crt" not in login.sftp("ls -1").stdout.splitlines()


@pytest.mark.timed
def test_two_hundred_logins_at_the_same_time_are_served(login: Login) -> None:
    command = login.argv("ssh", "operator@127.0.0.1", "pki list")
    at_once = [subprocess.Popen(command, **NOTHING) for _ in range(200)]
    assert [one.wait(100) for one in at_once] == [0] * 200


def sessions_of(services: ControlPlane, login: Login) -> list[str]:
    """The open sessions of an operator."""
    with services.client() as client:
        return [one.name for one in client.sessions.list() if one.identity.endswith(f"/{login.name}")]


@dataclass(frozen=True)
class Certified:
    """A key, and certificates for it of an SSH CA that is registered for an operator."""

    login: Login
    authority: Path

    @property
    def key(self) -> Path:
        return self.login.directory / self.login.key

    def attempt(self, *options: str, names: str = "", account: str = "") -> "subprocess.CompletedProcess[str]":
        """Log in with a new certificate."""
        given = ["-s", self.authority, "-I", "a test", "-n", names or self.login.name, *options, f"{self.key}.pub"]
        subprocess.run(["ssh-keygen", "-q", *given], check=True)
        certificate = ("-o", f"CertificateFile={self.key}-cert.pub")
        argv = self.login.argv("ssh", *certificate, f"{account or self.login.name}@127.0.0.1", "pki list")
        return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL)


DAY = ("-V", "-1m:+23h")


@pytest.fixture
def certified(all_services: ControlPlane, login: Login, tmp_path: Path) -> Certified:
    made = Certified(replace(login, key="certified"), tmp_path / "authority")
    make_key(made.authority)
    make_key(made.key)
    line = (tmp_path / "authority.pub").read_text().strip()
    with all_services.client() as client:
        client.operators.register_ssh_key(login.name, line, certificate_authority=True)
    return made


@pytest.mark.slow
def test_a_certificate_logs_in_its_person_within_its_time_names_and_critical_options(certified: Certified) -> None:
    for refused in (
        {"options": ("-V", "-2h:-1h")},
        {"options": ("-V", "-1m:+25h")},
        {"options": DAY, "names": "another"},
        {"options": DAY, "account": "another"},
        {"options": (*DAY, "-O", "source-address=203.0.113.0/24")},
        {"options": (*DAY, "-O", "force-command=true")},
    ):
        options = refused.pop("options")
        done = certified.attempt(*options, **refused)
        assert (done.returncode, "Permission denied (publickey)" in done.stderr) == (255, True), (options, done.stderr)
        # A success ends the back-off of the failure.
        done = certified.attempt(*DAY, "-O", "source-address=127.0.0.0/8")
        assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("User supplied certificates and keys:")


@pytest.mark.slow
def test_a_certificate_is_refused_once_its_ca_is_removed_or_its_key_is_blocked(
    all_services: ControlPlane, certified: Certified
) -> None:
    assert certified.attempt(*DAY).returncode == 0
    with all_services.client() as client:
        [authority] = [one for one in client.operators.ssh_keys(certified.login.name) if one.certificate_authority]
        client.operators.remove_ssh_key(certified.login.name, authority.key.fingerprint)
        assert certified.attempt(*DAY).returncode == 255
        client.operators.register_ssh_key(certified.login.name, authority.key.public_key, certificate_authority=True)
        assert certified.attempt(*DAY).returncode == 0
        key = load_ssh_public_key(Path(f"{certified.key}.pub").read_bytes())
        client.certificates.block_key(spki_sha256(key), "the laptop was stolen")
        wait_for("the key is refused", lambda: certified.attempt(*DAY).returncode == 255)


def spki_sha256(key: SSHPublicKeyTypes) -> bytes:
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()
