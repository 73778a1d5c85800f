"""Common behavior of all commands: speed, exit codes, errors, output forms, color."""

import io
import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from keyreeve import errors
from keyreeve.cli import printing
from keyreeve.cli.exit_codes import Exit, error_document, error_text, exit_code
from keyreeve.cli.printing import Format, Palette, distance, table, until
from keyreeve.cli.program import requested_format
from support.command_line import Run

HEAVY = ("grpc", "cryptography", "google.protobuf", "yaml", "keyreeve.keys", "keyreeve.context", "asyncio")


@pytest.mark.parametrize("arguments", [["--help"], ["cert", "issue", "--help"], ["explain", "NAME_REFUSED"]])
def test_help_and_explain_load_neither_grpc_nor_cryptography(arguments: list[str]) -> None:
    program = (
        "import sys; from keyreeve.cli.program import run_command; code = run_command(sys.argv[1:]); "
        f"print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


def test_an_unknown_command_is_a_usage_error_in_the_requested_form(run: Run) -> None:
    plain = run("cert", "bogus")
    assert (plain.code, plain.out) == (2, "")
    assert "No such command" in plain.err
    assert run("cert", "bogus", "--output", "json").error["reason"] == "USAGE"
    assert yaml.safe_load(run("cert", "bogus", "-o", "yaml").err)["error"]["reason"] == "USAGE"


@pytest.mark.parametrize(
    ("arguments", "form"),
    [
        (["cert", "list"], Format.TABLE),
        (["cert", "list", "-o", "json"], Format.JSON),
        (["cert", "list", "--output=yaml"], Format.YAML),
        (["cert", "list", "--output"], Format.TABLE),
        (["cert", "list", "--output", "xml"], Format.TABLE),
    ],
)
def test_the_requested_form_is_known_before_the_arguments_are_parsed(arguments: list[str], form: Format) -> None:
    assert requested_format(arguments) is form


def test_every_reason_has_an_exit_code_other_than_done_or_a_usage_error_of_the_shell() -> None:
    codes = {reason: exit_code(error("x")) for reason, error in errors.register().items()}
    assert set(codes.values()) <= {Exit.REFUSED, Exit.USAGE, Exit.NOT_REACHABLE, Exit.NOT_ALLOWED}
    assert codes["ACCESS_DENIED"] is Exit.NOT_ALLOWED
    assert codes["PEER_CERTIFICATE_EXPIRED"] is Exit.NOT_ALLOWED
    assert codes["SERVICE_UNREACHABLE"] is Exit.NOT_REACHABLE
    assert codes["CONTEXT_INVALID"] is Exit.NOT_REACHABLE
    assert codes["CSR_MALFORMED"] is Exit.REFUSED


def test_an_error_says_what_why_and_what_to_do() -> None:
    error = errors.NameRefused(
        "2 names are refused",
        violations=[errors.Violation("csr.names[0]", "it is reserved")],
        retry_after=timedelta(seconds=3),
        metadata={"profile": "server"},
    )
    text = error_text(error)
    for part in (error.message, error.cause(), error.fix, "NAME_REFUSED", "csr.names[0]", "profile=server", "3 s"):
        assert part in text
    told = error_document(error)["error"]
    assert json.loads(json.dumps(told)) == told


def test_a_violation_that_the_message_is_made_of_is_not_said_twice() -> None:
    violation = errors.Violation("lifetime", "it is negative")
    text = error_text(errors.FieldInvalid("lifetime: it is negative", violations=[violation]))
    assert text.count("it is negative") == 1


@pytest.mark.parametrize("form", ["table", "json"])
def test_a_value_that_is_no_choice_is_refused_in_words_of_ours(run: Run, form: str) -> None:
    done = run("cert", "list", "--state", "x", "--output", form)
    assert done.code == 2
    assert "'x' is not one of 'valid'" in done.err
    assert "Value error" not in done.err


def test_a_reason_that_this_release_does_not_know_keeps_its_name() -> None:
    assert "NEWER_THAN_US" in error_text(errors.from_reason("NEWER_THAN_US", "something new"))


def test_explain_knows_every_reason_and_suggests_the_nearest(run: Run) -> None:
    listed = run("explain", "--quiet").out.split()
    assert listed == list(errors.register())
    assert run("explain", "name_refused", "-o", "json").document["fix"] == errors.NameRefused.fix
    mistyped = run("explain", "NAME_REFUSD")
    assert mistyped.code == 2
    assert "NAME_REFUSED" in mistyped.err


def test_commands_that_need_a_context_say_how_to_get_one(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for arguments in (["cert", "list"], ["status"], ["doctor"], ["settings"]):
        done = run(*arguments)
        assert done.code == 3
        assert "keyreeve up" in done.err


def test_down_and_reset_where_nothing_is_are_no_error(run: Run, tmp_path: Path) -> None:
    assert run("down", "--dir", tmp_path / "none").code == 0
    assert run("reset", "--dir", tmp_path / "none").code == 0


def test_reset_refuses_a_directory_that_up_did_not_make(run: Run, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("x")
    done = run("reset", "--force", "--dir", tmp_path)
    assert done.code == 2
    assert (tmp_path / "precious").exists()


def test_up_refuses_a_trust_domain_that_is_none(run: Run, tmp_path: Path) -> None:
    done = run("up", "--dir", tmp_path / "control_plane", "--trust-domain", "Not_A_Domain")
    assert done.code == 2
    assert not (tmp_path / "control_plane").exists()


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_color_is_for_terminals_only_and_no_color_disables_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert Palette.of(io.StringIO()) == Palette()
    assert Palette.of(_Terminal()).red
    monkeypatch.setenv("NO_COLOR", "1")
    assert Palette.of(_Terminal()) == Palette()
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert Palette.of(_Terminal()) == Palette()


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    command = f'"{sys.executable}" -m keyreeve.cli explain | head -n 1'
    done = subprocess.run(
        ["/bin/sh", "-c", command],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    assert done.stdout.startswith("REASON")
    assert done.stderr == ""


def test_tables_line_up_and_lists_stay_on_one_line() -> None:
    text = table(("name", "not_after"), [{"name": "a", "not_after": ["x", "y"]}, {"name": "longer", "not_after": None}])
    assert text == "NAME    NOT AFTER\na       x, y\nlonger\n"


def test_a_silent_command_prints_the_essence_alone() -> None:
    stream = io.StringIO()
    printing.Printer(Format.TABLE, quiet=True, stream=stream).rows(("a",), [{"a": 1}, {"a": 2}], brief="a")
    assert stream.getvalue() == "1\n2\n"


@pytest.mark.parametrize(
    ("span", "text"),
    [
        (timedelta(hours=12), "12 h"),
        (timedelta(days=29, hours=23, minutes=59), "29 d 23 h"),
        (timedelta(seconds=-90), "1 min 30 s ago"),
        (timedelta(0), "0 s"),
    ],
)
def test_durations_are_printed_in_two_units(span: timedelta, text: str) -> None:
    assert distance(span) == text


def test_times_are_printed_in_utc_and_relative() -> None:
    now = datetime(2031, 5, 4, tzinfo=UTC)
    assert until(now + timedelta(hours=1), now) == "2031-05-04T01:00:00Z (in 1 h)"
    assert until(now - timedelta(hours=1), now) == "2031-05-03T23:00:00Z (1 h ago)"
