"""`keyreeve vault object|settings|resolve|explain|file` against a running service."""

import asyncio
import io
import json
import shlex
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from keyreeve.cli.program import run_command
from keyreeve.identity import Role
from support.command_line import Ran
from support.service_in_process import InProcess

Command = Callable[..., Awaitable[Ran]]
LAUNCH = (
    *("--array", "sales", "--owner", "o=Indigo/cn=Ada"),
    *("--application", "o=Indigo/cn=Word", "--application-server", "o=Indigo/cn=prague"),
)
SPACE = ("--array", "sales", "--server", "core1.example.test")


@pytest.fixture
async def command(
    vault_on_sqlite: InProcess, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Command:
    """Runs a command line as an admin."""
    context = tmp_path / "context.json"
    (await vault_on_sqlite.client(Role.ADMIN)).context.save(context)
    monkeypatch.setenv("KEYREEVE_CONTEXT", str(context))

    async def run(*arguments: object) -> Ran:
        capsys.readouterr()
        code = await asyncio.to_thread(run_command, ["vault", *map(str, arguments)])
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return run


async def done(command: Command, *arguments: object) -> Any:
    ran = await command(*arguments, "-o", "json")
    assert ran.code == 0, ran.err
    return json.loads(ran.out)


async def test_a_decision_is_made_and_explained_by_commands(command: Command, tmp_path: Path) -> None:
    await done(command, "object", "put", "o=Indigo/cn=prague", "--array", "sales", "--kind", "application-server")
    word = ("o=Indigo/cn=Word", "--array", "sales")
    await done(command, "object", "put", *word, "--kind", "application", "--runs-on", "windows")
    edited = await done(command, "object", "edit", *word, "--domain", "INDIGO", "--no-enhanced-network-security")
    assert (edited["domain"], edited["enhanced_network_security"], edited["version"]) == ("INDIGO", False, 2)
    assert [row["kind"] for row in await done(command, "object", "list", "--array", "sales")] == [
        "application-server",
        "application",
    ]
    dialog = await done(command, "resolve", *LAUNCH)
    assert (dialog["result"], dialog["nt_domain"], dialog["save_password"]) == ("dialog", "INDIGO", "checked")

    secret = tmp_path / "secret"
    secret.write_text("canary-91c2-password\n")
    entry = ("--array", "sales", "--owner", "o=Indigo/cn=Ada", "--resource", ".../_wns/INDIGO", "--user", "ada")
    await done(command, "put", *entry, "--secret-file", secret)
    hidden = await command("resolve", *LAUNCH)
    assert "canary" not in hidden.out
    assert "***" in hidden.out
    shown = await done(command, "resolve", *LAUNCH, "--reveal")
    assert (shown["user_name"], shown["domain"], shown["secret"]) == ("ada", "INDIGO", "canary-91c2-password")
    explained = await command("explain", *LAUNCH)
    step = next(line for line in explained.out.splitlines() if line.startswith("domain of the application  "))
    assert step.split()[-4:] == [".../_ens/o=Indigo/cn=Word", "domain", "INDIGO", "decided"]
    assert "delete the entry for .../_wns/INDIGO" in explained.out
    assert "canary" not in explained.out


async def test_a_rotation_is_watched_and_an_early_destruction_lists_the_backups_that_become_unreadable(
    command: Command, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("canary-91c2-password\n")
    for owner in ("Ada", "Bill"):
        entry = ("--array", "sales", "--owner", f"o=Indigo/cn={owner}", "--user", "u", "--secret-file", secret)
        await done(command, "put", *entry)
    watched = await command("rotate", "--array", "sales", "--watch")
    assert watched.code == 0
    assert "2 of 2 values re-encrypted" in watched.out + watched.err
    assert ": succeeded" in watched.out
    old = (await done(command, "status", "--array", "sales"))["keys"][1]
    destroyed = await command("destroy-key", old["name"], "--now")
    assert "another person has to ask for it within an hour" in destroyed.out
    backups = f"backups of the database taken from {old['created_at']} to {old['drained_at']}"
    assert f"unreadable with it: {backups}" in destroyed.out


async def test_launch_settings_are_printed_and_changed(command: Command) -> None:
    await done(command, "settings", "--array", "sales", "--set", "show_dialog=none", "--set", "dialog_delay_seconds=9")
    rows = await done(command, "settings", "--array", "sales", "--server", "a.test", "--set", "allow_smart_card=false")
    found = {row["setting"]: (row["value"], row["set_by"]) for row in rows}
    assert found["show_dialog"] == ("none", "array")
    assert found["dialog_delay_seconds"] == (9, "array")
    assert found["allow_smart_card"] == ("false", "server")
    assert found["save_login_password"] == ("true", "default")
    again = await done(command, "settings", "--array", "sales", "--unset", "show_dialog")
    assert next(row for row in again if row["setting"] == "show_dialog")["set_by"] == "default"
    for wrong in ("show_dialog=maybe", "none=1", "allow_smart_card=perhaps", "dialog_delay_seconds=-1"):
        assert (await command("settings", "--array", "sales", "--set", wrong)).code == 2


async def test_the_recipe_for_a_database_cluster_works_by_commands(command: Command, tmp_path: Path) -> None:
    await done(command, "file", "selfsigned", "dbca", "CN:tplab.local", *SPACE, "--key-type", "p256")
    names = "subjectAltName:core2.example.test,core3.example.test"
    made = await command("file", "csr", "dbserver", "CN:core1.example.test", names, *SPACE, "--key-type", "p256")
    assert "created dbserver.key" in made.out
    assert "warning: the subject alternative names do not contain the common name core1.example.test" in made.out
    await done(command, "file", "sign", "dbserver", "dbca", *SPACE)
    assert (await command("file", "match", "dbserver.key", "dbserver.crt", *SPACE)).code == 0
    assert (await command("file", "match", "dbca.key", "dbserver.crt", *SPACE)).code == 1
    assert (await command("file", "verify", "dbserver.crt", "dbca.crt", *SPACE)).code == 0
    inspected = await done(command, "file", "inspect", "dbserver.crt", *SPACE)
    assert inspected["elements"][0]["issuer"] == "CN=tplab.local"

    secret = tmp_path / "passphrase"
    secret.write_text("canary-90aa-passphrase")
    export = ("file", "pkcs12", "export", "dbserver.key", "dbserver.crt", "db.p12", "--bundle", "dbca.crt")
    await done(command, *export, *SPACE, "--secret-file", secret)
    await done(command, "file", "pkcs12", "convert", "db.p12", "copy", *SPACE, "--secret-file", secret)
    assert (await command("file", "match", "copy.key", "dbserver.crt", *SPACE)).code == 0
    listed = await done(command, "file", "list", *SPACE)
    assert {"copy-bundle.crt", "copy.crt", "copy.key", "db.p12"} < {row["file"] for row in listed}

    await done(command, "file", "assign", "database", "dbserver.key", "dbserver.crt", *SPACE)
    refused = await command("file", "csr", "dbserver", "CN:core1.example.test", *SPACE, "--replace")
    assert (refused.code, "KEY_FILE_IN_USE" in refused.err) == (1, True)
    for wrong in (["OU:x"], ["CN:a", "CN:b"], ["XX:a"], ["CN"]):
        ran = await command("file", "csr", "x", *wrong, *SPACE)
        assert ran.code != 0, wrong


async def test_files_are_put_and_read_by_commands(command: Command, tmp_path: Path) -> None:
    local = tmp_path / "web.crt"
    local.write_bytes(b"hello\n")
    await done(command, "file", "put", local, *SPACE)
    await done(command, "file", "rename", "web.crt", "other.crt", *SPACE)
    assert (await command("file", "get", "other.crt", *SPACE)).out == "hello\n"
    await done(command, "file", "delete", "other.crt", *SPACE)
    gone = await command("file", "get", "other.crt", *SPACE)
    assert (gone.code, "KEY_FILE_NOT_FOUND" in gone.err) == (1, True)
    missing = await command("file", "put", tmp_path / "none", *SPACE)
    assert (missing.code, "FILE_UNUSABLE" in missing.err) == (2, True)


async def test_default_rules_are_not_lost_by_accident_and_come_back(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [built_in] = await done(command, "policy", "list")
    default = await command("policy", "default")
    assert yaml.safe_load(default.out) == built_in["rules"]
    narrow = tmp_path / "narrow.yaml"
    narrow.write_text("- {callers: ['workloads/billing/*'], purposes: [batch]}\n")
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    asked = await command("policy", "apply", "built-in", narrow)
    assert asked.code != 0
    assert "operators/admin/*: *\n" in asked.err
    monkeypatch.setattr("sys.stdin", io.StringIO(narrow.read_text()))
    unasked = await command("policy", "apply", "policies/built-in", "-")
    assert (unasked.code, "--yes" in unasked.err) == (2, True)
    assert (await done(command, "policy", "list")) == [built_in]

    assert (await done(command, "policy", "apply", "built-in", narrow, "--yes"))["version"] == 1
    monkeypatch.setattr("sys.stdin", io.StringIO(default.out))
    back = await done(command, "policy", "apply", "built-in", "-")
    assert (back["version"], back["rules"]) == (2, built_in["rules"])


async def test_an_application_needs_what_it_runs_on_and_the_option_is_named(command: Command) -> None:
    for wrong in (["application"], ["user-profile", "--runs-on", "windows"]):
        ran = await command("object", "put", "o=Indigo/cn=Word", "--array", "sales", "--kind", *wrong)
        assert (ran.code, "--runs-on" in ran.err) == (2, True)


async def test_an_assigned_file_is_refused_with_what_helps(command: Command) -> None:
    await done(command, "file", "selfsigned", "web", "CN:web.example.test", *SPACE, "--key-type", "p256")
    await done(command, "file", "assign", "webadmin", "web.key", "web.crt", *SPACE)
    replaced = await command("file", "csr", "web", "CN:web.example.test", *SPACE, "--replace")
    assert "the key web.key is not replaced: web.crt and web.key are in use" in replaced.err
    deleted = await command("file", "delete", "web.crt", *SPACE)
    assert "assign other files to the service" in deleted.err


@pytest.mark.parametrize(
    ("page", "shown"),
    [
        ("vault.md", ("canary-77f1", ".../_wns/INDIGO", "decided")),
        ("key-files.md", ("CERTIFICATE REQUEST", "webadmin")),
    ],
)
async def test_the_example_of_a_page_works_as_it_stands(
    page: str, shown: tuple[str, ...], command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (Path(__file__).parents[3] / "docs" / page).read_text()
    example = text.partition("```sh\n")[2].partition("\n```")[0]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "web.crt").write_text("the CA's answer\n")
    printed = ""
    for line in example.splitlines():
        if line.startswith("export "):
            for name, value in (one.split("=") for one in line.split()[1:]):
                monkeypatch.setenv(name, value)
        if "keyreeve vault " not in line:
            continue
        _, _, *arguments = shlex.split(line.rpartition(" | ")[2].partition(" > ")[0], comments=True)
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"canary-77f1\n")))
        ran = await command(*arguments)
        assert ran.code == 0, (line, ran.err)
        printed += ran.out
    assert [one for one in shown if one not in printed] == []
