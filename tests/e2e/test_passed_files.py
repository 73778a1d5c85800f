"""How many files a call passes on its way through the service and back, and that it passes them in order."""

import itertools
import re
from collections.abc import Callable

import pytest

from keyreeve import Client
from keyreeve.keys import make_csr, make_key
from keyreeve.values import Name
from support.import_graph import ROOT
from support.passed_files import Passed, Recorder, recorded_control_plane

MOST_FOR_A_CERTIFICATE = 39
"""A third fewer than the 59 that this test counted at commit dc53786, where grpcio was the transport."""
MOST_FOR_A_TOKEN = 32
"""A third fewer than the 49 that this test counted at commit dc53786."""
KEY = make_key()
NUMBERS = itertools.count(1)


@pytest.fixture(scope="module")
def recorder(tmp_path_factory: pytest.TempPathFactory):
    with recorded_control_plane(tmp_path_factory.mktemp("recorded")) as recorder:
        yield recorder


def sign_certificate(client: Client) -> None:
    client.certificates.sign("server", make_csr(KEY, [Name.dns("web.example.test")]))


def create_enrollment_token(client: Client) -> None:
    client.tokens.create(f"spiffe://dev.localhost/services/membership/number-{next(NUMBERS)}")


def documented(heading: str) -> set[str]:
    """The files of the table in docs/architecture.md below this line, without their packages unless it is the SDK."""
    text = (ROOT / "docs/architecture.md").read_text()
    table = text[text.index(heading) :].split("\n\n")[1]
    return set(re.findall(r"`([\w/]+)`", table))


def named(files: tuple[str, ...]) -> set[str]:
    """The same names of files that were passed."""
    return {re.sub(r"^keyreeve_\w+/", "", one).removesuffix(".py") for one in files}


def show(what: str, passed: Passed) -> None:
    print(f"{what} passes {len(passed.files)} files:", *passed.files, sep="\n  ")
    print(f"and {len(passed.transport)} of the transport:", *passed.transport, sep="\n  ")
    print("entered again:", *passed.entered_again, sep="\n  ")


def passed_by(recorder: Recorder, call: Callable[[Client], object], turning_point: str, wanted: set[str]) -> Passed:
    """What a call passes: a job that comes every few seconds may hide a file, or add one, in one or two of three attempts."""
    for _ in range(3):
        passed = recorder.passed_by(call, turning_point)
        if named(passed.files) == wanted:
            break
    return passed


def test_a_signed_certificate_passes_few_files_and_none_again(recorder) -> None:
    committed = "keyreeve_chassis/audit/chains.py"
    wanted = documented("file again after it has left it for another layer")
    passed = passed_by(recorder, sign_certificate, committed, wanted)
    show("a signed certificate", passed)
    assert committed in passed.files
    assert len(passed.files) <= MOST_FOR_A_CERTIFICATE
    assert named(passed.files) == wanted
    assert passed.entered_again == ()


def test_a_created_enrollment_token_passes_few_files_and_none_again(recorder) -> None:
    stored = "keyreeve_ca/enrollment/sql.py"
    wanted = documented("A created enrollment token is a mutation")
    passed = passed_by(recorder, create_enrollment_token, stored, wanted)
    show("a created enrollment token", passed)
    assert stored in passed.files
    assert len(passed.files) <= MOST_FOR_A_TOKEN
    assert named(passed.files) == wanted
    assert passed.entered_again == ()
