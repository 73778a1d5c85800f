"""`keyreeve token` and `keyreeve enroll`: output, hidden secrets and refusals."""

import stat
from pathlib import Path

import pytest

from keyreeve.cli.administration import token_commands
from support.command_line import Run
from support.fake_ca_server import FakeCa
from support.sdk_calls import EXAMPLES, TOKEN

TEXT = "krt1_secret"


@pytest.fixture
def tokens(fake: FakeCa) -> FakeCa:
    for name in ("CreateEnrollmentToken", "RevokeEnrollmentToken", "ListEnrollmentTokens"):
        fake.answer(name, EXAMPLES[name].answer)
    return fake


def test_a_token_is_asked_for_by_the_last_part_of_the_identity(run: Run, tokens: FakeCa) -> None:
    ran = run("token", "create", "members/web.example.test", "--lifetime", "8h", "--address", "ca.example.test:7483")
    assert ran.code == 0
    assert TEXT in ran.out
    [call] = tokens.received
    assert call.request.identity == "spiffe://example.test/members/web.example.test"
    assert call.request.lifetime.seconds == 8 * 3600
    assert call.request.address == "ca.example.test:7483"


def test_quiet_prints_the_text_alone(run: Run, tokens: FakeCa) -> None:
    assert run("token", "create", TOKEN.identity, "-q").out == f"{TEXT}\n"
    assert tokens.received[0].request.identity == TOKEN.identity


def test_a_saved_token_is_for_its_owner_and_not_printed(run: Run, tokens: FakeCa, tmp_path: Path) -> None:
    ran = run("token", "create", TOKEN.identity, "--save", tmp_path / "token", "-o", "json")
    assert TEXT not in ran.out + ran.err
    assert ran.document["file"] == str(tmp_path / "token")
    assert (tmp_path / "token").read_text() == f"{TEXT}\n"
    assert stat.S_IMODE((tmp_path / "token").stat().st_mode) == 0o600


def test_no_token_is_made_for_a_file_that_cannot_be_written(run: Run, tokens: FakeCa, tmp_path: Path) -> None:
    for place in ("/proc/token", tmp_path / "none" / "token", tmp_path):
        assert run("token", "create", TOKEN.identity, "--save", place).code == 2
    assert tokens.received == []


def test_tokens_are_listed_and_revoked_by_name(run: Run, tokens: FakeCa) -> None:
    name = TOKEN.name.removeprefix("enrollmentTokens/")
    assert [row["name"] for row in run("token", "list", "-o", "json").document] == [name]
    assert run("token", "list", "-q").out == f"{name}\n"
    assert run("token", "revoke", name).code == 0
    assert tokens.received[-1].request.name == TOKEN.name


def test_the_text_of_a_token_is_not_taken_for_its_name(run: Run, tokens: FakeCa) -> None:
    ran = run("token", "revoke", TEXT)
    assert ran.code == 2
    assert tokens.received == []


@pytest.mark.parametrize("content", ["", "krt1_nothing", "\u00e9", "x" * 20_000])
def test_a_file_that_holds_no_token_is_refused_without_showing_it(run: Run, tmp_path: Path, content: str) -> None:
    file = tmp_path / "token"
    file.write_text(content)
    ran = run("enroll", file, "--dir", tmp_path / "me", "-o", "json")
    assert ran.code == 1
    assert ran.error["reason"] == "TOKEN_MALFORMED"
    assert not (tmp_path / "me").exists()


def test_a_file_that_is_not_there_is_said_to_be_missing(run: Run, tmp_path: Path) -> None:
    assert run("enroll", tmp_path / "none", "--dir", tmp_path / "me").code == 2


def test_a_token_on_the_command_line_is_warned_of(run: Run, tmp_path: Path) -> None:
    ran = run("enroll", "krt1_onthecommandline", "--dir", tmp_path / "me")
    assert "other users of this machine can read command lines" in ran.err
    assert ran.code == 1


def test_a_token_is_read_from_standard_input_when_no_file_is_named(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Path] = []
    monkeypatch.setattr(token_commands, "_token_text", lambda place: asked.append(place) or "krt1_")
    assert run("enroll", "--dir", tmp_path / "me").code == 1
    assert asked == [Path("-")]
