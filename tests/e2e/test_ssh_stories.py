"""Debian's ssh and sftp do what runbooks of the appliance do, against `keyreeve up`."""

import base64
import subprocess
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from keyreeve.audit.record import Record
from keyreeve.cli.supervision.local_services import SERVICES, is_free, read_addresses
from keyreeve.membership_values import Server
from keyreeve.values import OperatorRole
from support.control_plane import ControlPlane
from support.ssh_gateway import make_key
from support.waiting import wait_for

SERVER = "ssh-1.example.test"


@dataclass(frozen=True)
class Login:
    """An operator's key, registered, and where to log in with it."""

    directory: Path
    port: int
    name: str
    fingerprint: str

    def argv(self, program: str, *arguments: str) -> list[str]:
        chosen = (
            f"IdentityFile={self.directory / 'key'}",
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
        if SERVER not in {member.name.rpartition("/")[2] for member in client.membership.members.list()}:
            client.membership.arrays.create(Server(SERVER, "127.0.0.1:5427", "5.40"))
        name = f"olga-{uuid.uuid4().hex[:8]}"
        client.operators.invite(name, OperatorRole.OPERATOR)
        key = client.operators.register_ssh_key(name, (tmp_path / "key.pub").read_text().strip())
        host_key = client.credentials.host_keys.get()
        encoded = base64.b64encode(host_key.public_key).decode()
        (tmp_path / "known_hosts").write_text(f"gateway {host_key.algorithm} {encoded}\n")
        yield Login(tmp_path, port, name, key.key.fingerprint)


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
