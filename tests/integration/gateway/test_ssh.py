"""Debian's ssh and sftp are served: command lines, a shell, and the file space in the vault."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from fakes.legacy_services import LegacyServices
from keyreeve import errors
from keyreeve_gateway.ssh.files import VaultFiles
from support.ssh_gateway import SERVER, RunningSsh, run, running_ssh
from support.transcripts import Recorder
from support.waiting import wait_until


@pytest.fixture
def services() -> LegacyServices:
    return LegacyServices(Recorder())


@pytest.fixture
async def gateway(tmp_path: Path, services: LegacyServices) -> AsyncIterator[RunningSsh]:
    await services.give(f"array sales: {SERVER}")
    async with running_ssh(tmp_path, services.clients()) as running:
        yield running


async def test_a_command_has_the_output_and_the_exit_code_of_the_installed_one(gateway: RunningSsh) -> None:
    listed = await gateway.ssh("pki list")
    assert (listed.code, listed.out, listed.err) == (0, "User supplied certificates and keys:\n", "")
    made = await gateway.ssh("pki csr web CN:web.example.test")
    assert made.out.endswith("Created key file web.key and CSR web.csr\nCSR file web.csr ready for download via SFTP\n")
    assert (await gateway.ssh("tarantella array list")).out == f"{SERVER} (primary)\n"
    refused = await gateway.ssh("pki frobnicate")
    assert (refused.code, refused.err.splitlines()[0]) == (2, "FAILURE: unknown command pki frobnicate")


async def test_a_secret_is_a_line_of_standard_input(gateway: RunningSsh, services: LegacyServices) -> None:
    command = "tarantella passcache new --anon --resource .../_dns/rome.example.com --resuser guest"
    assert (await gateway.ssh(command, given=b"s3cret\n")).code == 0
    assert list(services.secrets.values()) == [b"s3cret"]
    batch = b"--anon --resource .../_dns/a.example.com --resuser a --respass one\n"
    assert (await gateway.ssh("tarantella passcache new --file -", given=batch)).code == 0
    assert len(services.entries) == 2


async def test_a_shell_has_the_prompt_and_runs_line_after_line(gateway: RunningSsh) -> None:
    shell = await gateway.ssh("-tt", given=b"pki list\nexit\n")
    assert shell.code == 0
    assert "cms> " in shell.out
    assert "User supplied certificates and keys:" in shell.out
    without_terminal = await gateway.ssh(given=b"pki list\n")
    assert without_terminal.out == "User supplied certificates and keys:\n"


async def test_a_shell_has_line_editing_and_history(gateway: RunningSsh) -> None:
    up, left, backspace = b"\x1b[A", b"\x1b[D", b"\x7f"
    typed = b"pki lis" + backspace * 2 + b"st" + left * 2 + b"i\x05\r" + up + b"\r" + b"exit\r"
    shell = await gateway.ssh("-tt", given=typed)
    assert shell.code == 0
    # The first line has become `pki list`, and the second one is the first again.
    assert shell.out.count("User supplied certificates and keys:") == 2
    assert "unknown command" not in shell.out


async def test_files_are_put_listed_read_renamed_and_removed(gateway: RunningSsh, tmp_path: Path) -> None:
    (tmp_path / "web.crt").write_bytes(b"-----BEGIN CERTIFICATE-----\n" * 3_000)
    done = await gateway.sftp(
        f"put {tmp_path}/web.crt",
        "ls -l",
        "rename web.crt new.crt",
        f"get new.crt {tmp_path}/back.crt",
        "ls -1",
        "rm new.crt",
    )
    assert done.code == 0, done.err
    assert (tmp_path / "back.crt").read_bytes() == (tmp_path / "web.crt").read_bytes()
    assert "84000" in done.out
    assert "new.crt" in done.out.splitlines()
    assert (await gateway.sftp("ls -1")).out.splitlines() == ["sftp> ls -1"]


async def test_an_upload_is_not_continued(gateway: RunningSsh, services: LegacyServices, tmp_path: Path) -> None:
    (tmp_path / "web.crt").write_bytes(b"first")
    assert (await gateway.sftp(f"put {tmp_path}/web.crt")).code == 0
    (tmp_path / "web.crt").write_bytes(b"first and second")
    refused = await gateway.sftp(f"reput {tmp_path}/web.crt")
    assert refused.code == 1, refused.err
    assert [list(space.values()) for space in services.files.spaces.values()] == [[b"first"]]


@pytest.mark.parametrize(
    "command",
    [
        "put {file} ../web.crt",
        "put {file} sub/web.crt",
        "mkdir sub",
        "get ../../etc/passwd",
        "ln -s a b",
        "get /etc/passwd",
    ],
)
async def test_there_is_nothing_outside_of_the_flat_space(
    gateway: RunningSsh, services: LegacyServices, tmp_path: Path, command: str
) -> None:
    (tmp_path / "file").write_text("x")
    assert (await gateway.sftp(command.format(file=tmp_path / "file"))).code == 1
    assert not any(services.files.spaces.values())


async def test_an_upload_that_breaks_off_leaves_nothing(
    gateway: RunningSsh, services: LegacyServices, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts: list[int] = []
    write = VaultFiles.write

    async def counted(self: VaultFiles, file_obj: object, offset: int, data: bytes) -> int:
        parts.append(len(data))
        return await write(self, file_obj, offset, data)

    monkeypatch.setattr(VaultFiles, "write", counted)
    (tmp_path / "big").write_bytes(b"x" * 1_000_000)
    argv = ["sftp", *gateway.options(), "-P", str(gateway.port), "-l", "8", "-b", "-", "admin@127.0.0.1"]
    process = await asyncio.create_subprocess_exec(
        *argv, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL
    )
    assert process.stdin is not None
    process.stdin.write(f"put {tmp_path}/big big.crt\n".encode())
    await process.stdin.drain()
    await wait_until("a login", lambda: gateway.people.opened)
    await wait_until("a part of the upload", lambda: parts)
    process.kill()
    await process.wait()
    await wait_until("the session is closed", lambda: gateway.people.closed == 1)
    assert not any(services.files.spaces.values())


async def test_a_key_that_nobody_has_registered_is_refused_and_slowed_down(gateway: RunningSsh) -> None:
    gateway.make_identity("other", None)
    for _ in range(3):
        refused = await gateway.ssh("pki list", identity="other")
        assert (refused.code, "Permission denied (publickey)" in refused.err) == (255, True)
    assert gateway.delays == [0.0, 0.25, 0.5]
    assert len(gateway.people.refused) == 3
    assert (await gateway.ssh("pki list")).code == 0


async def test_nothing_is_forwarded(gateway: RunningSsh) -> None:
    for option in (["-W", "127.0.0.1:22"], ["-N", "-o", "ExitOnForwardFailure=yes", "-R", "0:127.0.0.1:22"]):
        argv = ["ssh", *gateway.options(), *option, "-p", str(gateway.port), "admin@127.0.0.1"]
        assert (await run(*argv)).code == 255


@pytest.mark.parametrize(
    "option", ["KexAlgorithms=diffie-hellman-group14-sha256", "Ciphers=aes128-ctr", "HostKeyAlgorithms=ssh-rsa"]
)
async def test_old_algorithms_are_refused(gateway: RunningSsh, option: str) -> None:
    refused = await gateway.ssh("pki list", options=(option,))
    assert (refused.code, "no matching" in refused.err or "Bad key types" in refused.err) == (255, True)


async def test_several_sessions_share_a_connection(gateway: RunningSsh, tmp_path: Path) -> None:
    shared = (f"ControlPath={tmp_path}/control", "ControlMaster=auto", "ControlPersist=30")
    assert (await gateway.ssh("pki list", options=shared)).code == 0
    done = await asyncio.gather(*(gateway.ssh("pki list", options=shared) for _ in range(5)))
    assert [each.code for each in done] == [0] * 5
    assert (await gateway.sftp("ls", options=shared)).code == 0
    assert len(gateway.people.opened) == 1
    await gateway.ssh("-O", "exit", options=shared)


async def test_a_session_that_is_over_ends_its_connection(gateway: RunningSsh) -> None:
    argv = ["ssh", *gateway.options(), "-tt", "-p", str(gateway.port), "admin@127.0.0.1"]
    shell = await asyncio.create_subprocess_exec(
        *argv, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    assert shell.stdout is not None
    assert b"cms> " in await shell.stdout.read(100)
    gateway.people.opened[0].over.set_result(errors.SessionClosed("an admin has closed it"))
    assert await asyncio.wait_for(shell.wait(), 5) == 255
    await wait_until("the session is closed", lambda: gateway.people.closed == 1)


async def many(gateway: RunningSsh, number: int) -> list[Any]:
    return await asyncio.gather(*(gateway.ssh("pki list") for _ in range(number)))


async def test_logins_at_the_same_time_are_served(gateway: RunningSsh) -> None:
    assert [each.code for each in await many(gateway, 8)] == [0] * 8
