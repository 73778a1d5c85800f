"""What `status` and `doctor` say about services, and what a prompt says that nobody answers."""

import subprocess
import sys
from pathlib import Path

import grpc
import pytest

from keyreeve.cli.local.doctor import Finding, Severity, told_once
from keyreeve.cli.local.service_problems import problems_in
from keyreeve.errors import ServiceUnreachable
from keyreeve.status import error_from_rpc

SOUND = (
    "keyreeve_database_reachable 1.0\nkeyreeve_ca_issuance_halted 0.0\nkeyreeve_credentials_sealed 0.0\n"
    'keyreeve_audit_sink_failing{sink="file"} 0.0\n'
)


def test_what_several_services_say_in_the_same_words_comes_once() -> None:
    old = Finding("sqlite", Severity.WARNING, "SQLite 3.40.1 is old", "use another")
    database = Finding("database", Severity.OK, "schema version 4")
    found = told_once({"ca": [old, Finding("database", Severity.OK, "version 18")], "membership": [old, database]})
    assert [one.check for one in found] == ["sqlite", "ca database", "membership database"]


def test_findings_without_a_name_keep_that_of_their_service() -> None:
    silent = Finding("", Severity.ERROR, "it does not answer", "keyreeve up")
    assert [one.check for one in told_once({"ca": [silent], "membership": [silent]})] == ["ca", "membership"]


def test_a_sound_page_of_metrics_has_no_problems() -> None:
    assert list(problems_in(SOUND)) == []
    assert list(problems_in("")) == []


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("reachable 1.0", "reachable 0.0", "database does not answer"),
        ("halted 0.0", "halted 1.0", "issuance is halted"),
        ("sealed 0.0", "sealed 1.0", "vault is sealed"),
        ('"file"} 0.0', '"file"} 1.0', "sink of its audit log fails"),
    ],
)
def test_each_problem_on_a_page_of_metrics_is_said(before: str, after: str, said: str) -> None:
    [problem] = problems_in(SOUND.replace(before, after))
    assert said in problem


class Failure(grpc.RpcError):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text

    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.UNAVAILABLE

    def details(self) -> str:
        return self.text

    def trailing_metadata(self) -> tuple[()]:
        return ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "last error: UNKNOWN: ipv4:127.0.0.1:7443: Failed to connect to remote host: Connection refused",
            "no answer from ca at 127.0.0.1:7443: nothing listens there",
        ),
        (
            "SSL_ERROR_SSL: error:1000007d: CERTIFICATE_VERIFY_FAILED: self signed certificate in certificate chain",
            "no answer from ca at 127.0.0.1:7443: its certificate leads to none of the roots of the context",
        ),
        (
            "Peer name ca.svc.x is not in peer certificate",
            "no answer from ca at 127.0.0.1:7443: its certificate is for",
        ),
        ("something new", "no answer from ca at 127.0.0.1:7443: something new"),
    ],
)
def test_a_connection_that_fails_is_told_in_plain_words(text: str, said: str) -> None:
    error = error_from_rpc(Failure(text), "ca at 127.0.0.1:7443")
    assert isinstance(error, ServiceUnreachable)
    assert error.message.startswith(said)


@pytest.mark.parametrize(
    ("address", "except_", "proxied"),
    [
        ("ca.example.test:7443", "", True),
        ("10.127.0.5:7443", "", True),
        ("localhost.example.test:7443", "", True),
        ("10.127.0.5:7443", "10.0.0.0/8", False),
        ("ca.example.test:7443", "other.test, .example.test", False),
        ("ca.example.test:7443", "example.org", True),
        ("127.0.0.2:7443", "", False),
        ("[::1]:7443", "", False),
        ("localhost:7443", "", False),
    ],
)
def test_a_proxy_is_named_where_grpc_dials_it(
    monkeypatch: pytest.MonkeyPatch, address: str, except_: str, *, proxied: bool
) -> None:
    for variable in ("grpc_proxy", "http_proxy", "no_grpc_proxy"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("https_proxy", "http://ann:hunter2@proxy.test:3128")
    monkeypatch.setenv("no_proxy", except_)
    error = error_from_rpc(Failure("Connection refused"), f"ca at {address}")
    assert ("through the proxy proxy.test:3128 of https_proxy" in error.message) is proxied
    assert "hunter2" not in error.message


def test_a_prompt_at_the_end_of_input_says_that_nothing_was_done(tmp_path: Path) -> None:
    (tmp_path / ".keyreeve").mkdir()
    (tmp_path / ".keyreeve" / "ca.yaml").write_text("trust_domain: dev.localhost\n")
    command = [sys.executable, "-m", "keyreeve.cli", "reset"]
    done = subprocess.run(command, cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode == 130
    assert done.stderr.splitlines()[-1] == "not done: the question was not answered, or not with yes"
    assert (tmp_path / ".keyreeve").exists()
