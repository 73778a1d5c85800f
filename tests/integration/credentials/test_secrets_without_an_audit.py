"""No secret is answered without its audit record, nor while a required sink does not take the log."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from keyreeve import errors
from keyreeve.file_values import FileKeyType, FileSpace, RequestAttributes
from keyreeve.launch_values import ApplicationKind, Launch, ObjectKind
from keyreeve.plaintext import Plaintext
from keyreeve_chassis.audit.chains import ChainWriter
from keyreeve_chassis.settings.sections import AuditSettings
from support.service_in_process import InProcess
from support.vault import BILL, PRAGUE, running_vault, vault_settings

XTERM = "o=Indigo/cn=Xterm"
LAUNCH = Launch("sales", BILL, XTERM, PRAGUE)
SPACE = FileSpace("sales", "core1.example.test")
SECRET = Plaintext.of("canary-of-no-audit")


async def reads_of_secrets(vault: InProcess) -> list[Any]:
    """Calls of each method that reveals a secret."""
    credentials = (await vault.client()).credentials
    made = await credentials.entries.create("sales", BILL, PRAGUE, "bill", SECRET)
    await credentials.objects.create("sales", XTERM, ObjectKind.APPLICATION, application_kind=ApplicationKind.X)
    await credentials.files.create_self_signed(SPACE, "web", RequestAttributes("web.test"), key_type=FileKeyType.P256)
    return [
        lambda: credentials.entries.reveal(made.name, purpose="support", timeout=1),
        lambda: credentials.resolution.resolve(LAUNCH, timeout=1),
        lambda: credentials.files.get(SPACE, "web.key", purpose="backup", timeout=1),
    ]


async def reasons(calls: list[Any]) -> list[str]:
    """Make the calls at once, for they are repeated for a while; why each fails."""
    answers = await asyncio.gather(*(call() for call in calls), return_exceptions=True)
    return [getattr(answer, "reason", "") for answer in answers]


async def test_no_secret_is_answered_without_its_record(
    vault_on_sqlite: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise errors.StoreUnavailable("the disk is full")

    calls = await reads_of_secrets(vault_on_sqlite)
    for call in calls:
        await call()
    monkeypatch.setattr(ChainWriter, "append", fail)
    assert await reasons(calls) == ["AUDIT_UNAVAILABLE"] * 3


async def test_no_secret_is_answered_while_a_required_sink_fails(tmp_path: Path) -> None:
    sink = tmp_path / "audit.jsonl"
    settings = vault_settings(tmp_path, audit=AuditSettings(file=sink, sink_required=True))
    async with running_vault(settings, tmp_path) as vault:
        calls = await reads_of_secrets(vault)
        sink.unlink()

        async def until_refused() -> None:
            while True:  # the sink is looked at now and then
                await calls[0]()

        async with asyncio.timeout(10):
            with pytest.raises(errors.AuditUnavailable):
                await until_refused()
        assert await reasons(calls) == ["AUDIT_UNAVAILABLE"] * 3
        listed = [entry async for entry in (await vault.client()).credentials.entries.list("sales")]
        assert len(listed) == 1, "other reads go on"
