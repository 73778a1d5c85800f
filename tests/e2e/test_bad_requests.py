"""A hundred invalid requests against the real service: each is refused with its reason, and memory does not grow."""

import pytest

from keyreeve.errors import FailedPrecondition, InvalidArgument, KeyreeveError
from keyreeve.keys import make_csr, make_key
from keyreeve.values import Name, SignItem
from support.control_plane import ControlPlane
from support.csr_corpus import bad_csrs

MAX_GROWTH = 8_000_000
"""Bytes that a process may grow by over three rounds of the corpus after the first one (allocators keep some)."""


def _memory_per_kind(control_plane: ControlPlane) -> dict[str, int]:
    told: dict[str, int] = {}
    for name, size in control_plane.memory().items():
        kind = name.partition(" ")[0]
        told[kind] = max(told.get(kind, 0), size)
    return told


@pytest.mark.faults
@pytest.mark.alone
def test_each_bad_request_has_its_reason_and_leaves_the_service_as_it_was(control_plane: ControlPlane) -> None:
    corpus = bad_csrs(control_plane.context.trust_domain)
    assert len(corpus) >= 100
    before = control_plane.children()
    wrong = []
    with control_plane.client() as client:
        for _ in range(2):  # the first round fills caches and allocators
            for bad in corpus:
                try:
                    client.certificates.sign("server", bad.data)
                except (InvalidArgument, FailedPrecondition) as refusal:
                    if refusal.reason not in bad.reasons:
                        wrong.append(f"{bad.label}: {refusal.reason}: {refusal.message}")
                except KeyreeveError as other:
                    wrong.append(f"{bad.label}: {other!r}")
                else:
                    wrong.append(f"{bad.label}: signed")
        settled = _memory_per_kind(control_plane)
        for _ in range(3):
            for bad in corpus:
                with pytest.raises(KeyreeveError):
                    client.certificates.sign("server", bad.data)
        grown = _memory_per_kind(control_plane)
        good = client.certificates.sign("server", make_csr(make_key(), [Name.dns("web.example.test")]))
    assert wrong == []
    assert control_plane.children() == before
    assert good.serial
    assert all(grown[kind] - settled[kind] < MAX_GROWTH for kind in settled), (settled, grown)


def test_a_forbidden_name_in_each_position_of_a_hundred_refuses_that_item_alone(
    control_plane: ControlPlane,
) -> None:
    key = make_key()
    good = SignItem("server", make_csr(key, [Name.dns("web.example.test")]))
    bad = SignItem("server", make_csr(key, [Name.dns(f"ca.svc.{control_plane.context.trust_domain}")]))
    with control_plane.client() as client:
        for position in range(0, 100, 9):
            items = [bad if i == position else good for i in range(100)]
            outcomes = client.certificates.sign_many(items)
            refused = [i for i, outcome in enumerate(outcomes) if isinstance(outcome, KeyreeveError)]
            assert refused == [position]
            assert getattr(outcomes[position], "reason", "") == "NAME_REFUSED"


def test_a_forbidden_name_in_each_position_of_a_request_is_refused_by_its_place(
    control_plane: ControlPlane,
) -> None:
    key = make_key()
    reserved = Name.dns(f"ca.svc.{control_plane.context.trust_domain}")
    with control_plane.client() as client:
        for position in range(100):
            names = [Name.dns(f"n{i}.example.test") for i in range(100)]
            names[position] = reserved
            with pytest.raises(InvalidArgument) as refusal:
                client.certificates.sign("server", make_csr(key, names))
            assert refusal.value.reason == "NAME_REFUSED"
            assert [f"[{position}]" in violation.field for violation in refusal.value.violations] == [True]


@pytest.mark.parametrize("data", [b"", b"\xff\xd8\xff\xe0\x00\x10JFIF\x00" + bytes(2000)], ids=["empty", "jpeg"])
def test_the_command_line_says_why_a_file_is_no_request(control_plane: ControlPlane, data: bytes) -> None:
    done = control_plane.run("cert", "sign", "--csr", "-", given=data)
    assert done.code == 1
    assert done.out == ""
    assert "CSR_MALFORMED" in done.err
    assert "Traceback" not in done.err
