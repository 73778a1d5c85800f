"""Every registered reason is in the contract, and every reason in the contract is registered."""

import re
from pathlib import Path

from keyreeve.errors import register

PROTO = Path(__file__).parents[2] / "proto"
CALLERS_SIDE = {
    "CALLERS_REFUSED",
    "CERTIFICATE_UNTRUSTED",
    "CONTEXT_INVALID",
    "ENROLLMENT_ROOT_WRONG",
    "ENROLLMENT_SERVER_UNPROVEN",
    "FILE_UNUSABLE",
    "NOT_ENROLLED",
    "PACKAGE_MISSING",
    "PEER_MATERIAL_WRONG",
    "PROGRAM_NOT_RELOADED",
    "SERVICE_UNREACHABLE",
    "START_FAILED",
    "TOKEN_MALFORMED",
    "WRONG_DATABASE",
}
"""What the SDK and the command find out by themselves, or a service before it serves: no call is answered with it."""


def comments() -> dict[str, str]:
    """The comments of each file of the contract, each in one line."""
    told = {}
    for path in sorted(PROTO.rglob("*.proto")):
        lines = [
            line.strip().removeprefix("//") for line in path.read_text().splitlines() if line.strip().startswith("//")
        ]
        told[path.name] = " ".join(lines)
    return told


def test_every_reason_that_a_service_can_answer_is_named_where_its_callers_look() -> None:
    text = " ".join(comments().values())
    missing = {reason for reason in register() if not re.search(rf"\b{reason}\b", text)}
    assert missing == CALLERS_SIDE & set(register())
    assert set(register()) >= CALLERS_SIDE


def test_every_reason_that_an_rpc_names_can_be_explained() -> None:
    for name, text in comments().items():
        for sentence in re.findall(r"Reasons: (.*?)(?=Callers:|$)", text):
            named = set(re.findall(r"\b[A-Z]+(?:_[A-Z]+)+\b", sentence))
            assert named <= set(register()), name


def test_every_reason_says_why_what_to_do_and_who_can() -> None:
    for reason, error in register().items():
        assert error.cause().endswith("."), reason
        assert error.fix, reason
        assert error.who, reason
