"""What the audit log says of launches and key files: who, what, for what, and never a secret."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

from keyreeve import aio
from keyreeve.audit.record import Record
from keyreeve.file_values import FileKeyType, FileSpace, RequestAttributes
from keyreeve.launch_values import ApplicationKind, Launch, LaunchOutcome, ObjectKind
from keyreeve.plaintext import Plaintext
from keyreeve_credentials.settings import CredentialsSettings
from support.vault import running_vault

LAUNCH = Launch("sales", "o=Indigo/cn=Ada", "o=Indigo/cn=Xterm", ".../_dns/prague.test")
SPACE = FileSpace("sales", "core1.example.test")
SECRET = Plaintext.of("canary-audit-77f0")


async def records_until(client: aio.Client, method: str) -> Mapping[str, Record]:
    """The last record of each method, once there is one of this."""
    async with asyncio.timeout(10):  # the list ends at the last checkpoint, which is signed each second
        while True:
            records = [found.record async for found in client.credentials.audit.list()]
            found = {record.method.rpartition("/")[2]: record for record in records}
            if method in found:
                assert "canary" not in repr(records)
                return found


async def test_a_resolution_an_answer_and_an_outcome_leave_records_that_name_the_entry(
    settings: CredentialsSettings, tmp_path: Path
) -> None:
    async with running_vault(settings, tmp_path) as vault:
        client = await vault.client()
        application = ObjectKind.APPLICATION
        await client.credentials.objects.create(
            "sales", LAUNCH.application, application, application_kind=ApplicationKind.X
        )
        member = (await vault.client(path=vault.identity.enroll("one.test", "sales"))).credentials.resolution
        saved = await member.save_answer(LAUNCH, "ada", SECRET, save_password=True)
        row = (await client.credentials.entries.get(saved.entry)).row_sha256
        await member.resolve(LAUNCH)
        await member.report(LAUNCH, LaunchOutcome.REFUSED, entry=saved.entry, entry_version=1)
        found = await records_until(client, "ReportOutcome")
        assert ("row", f"{saved.entry} 1 {row.hex()}") in found["SaveDialogAnswer"].results
        read = dict(found["ResolveCredential"].targets)
        assert (read["owner"], read["resource"]) == (".../_ens/o=Indigo/cn=Ada", ".../_dns/prague.test")
        assert (read["purpose"], read["standing"], read["policy"]) == ("launch", "member", "policies/built-in")
        assert found["ResolveCredential"].caller.endswith("members/one.test")
        assert ("row", f"{saved.entry} deleted") in found["ReportOutcome"].results


async def test_the_read_of_a_private_key_leaves_a_record_with_its_purpose(
    settings: CredentialsSettings, tmp_path: Path
) -> None:
    async with running_vault(settings, tmp_path) as vault:
        client = await vault.client()
        files = client.credentials.files
        name = f"arrays/sales/servers/{SPACE.server}/files/"
        await files.put(SPACE, "contents.bin", SECRET)
        await files.create_self_signed(SPACE, "web", RequestAttributes("web.test"), key_type=FileKeyType.P256)
        await files.create_request(SPACE, "web", RequestAttributes("web.test"), key_type=FileKeyType.P256, replace=True)
        await files.get(SPACE, "web.key", purpose="backup")
        found = await records_until(client, "GetFile")
        read = dict(found["GetFile"].targets)
        assert (read["name"], read["purpose"]) == (f"{name}web.key", "backup")
        assert (read["owner"], read["resource"]) == (SPACE.server, "file/web.key")
        assert ("name", f"{name}contents.bin") in found["PutFile"].results
        made = found["CreateRequest"].results
        assert ("file", f"{name}web.key") in made
        assert ("kept", f"{name}web-replaced-1.key") in made
