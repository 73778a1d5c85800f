"""The material on disk: always one set that matches, whatever stops the agent."""

import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from keyreeve.errors import FileUnusable, PeerMaterialWrong
from keyreeve_agent.material.directory import MaterialDirectory
from keyreeve_agent.material.fitting import check_material
from keyreeve_agent.material.values import Material
from support.agent_world import TestArrayCa, epoch_of, material_of
from support.peer_certificates import TRUST_DOMAIN

NAME = f"one.{TRUST_DOMAIN}"
OLD, NEW = TestArrayCa.make(), TestArrayCa.make()
FIRST, SECOND = epoch_of(1, OLD), epoch_of(2, NEW)


def material(ca: TestArrayCa = OLD) -> Material:
    return material_of(ca.peer(NAME), ca, FIRST if ca is OLD else SECOND, (ca.crl(),))


def test_what_was_written_is_read_back_and_matches(tmp_path: Path) -> None:
    directory, made = MaterialDirectory(tmp_path / "peer"), material()
    assert directory.read() is None
    directory.write(made)
    assert directory.read() == made
    check_material(made, NAME)


def test_private_files_are_the_owners_alone(tmp_path: Path) -> None:
    directory = MaterialDirectory(tmp_path / "peer")
    written = directory.write(material())
    modes = {one.name: stat.S_IMODE(one.stat().st_mode) for one in written.iterdir()}
    assert modes["key.pem"] == modes["combined.pem"] == 0o600
    assert stat.S_IMODE(written.stat().st_mode) == 0o700


@pytest.mark.parametrize("call", ["fsync", "rename", "symlink_to", "open", "mkdir"])
def test_a_stop_at_any_call_leaves_the_former_set_in_place_and_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    directory, first, second = MaterialDirectory(tmp_path / "peer"), material(OLD), material(NEW)
    directory.write(first)
    owner = os if call in {"fsync", "open"} else Path
    real = getattr(owner, call)
    for stop_at in range(1, 40):
        count = 0

        def counted(*arguments: object, **options: object) -> object:
            nonlocal count
            count += 1
            if count == stop_at:  # noqa: B023
                raise OSError("the machine stops here")
            return real(*arguments, **options)

        with monkeypatch.context() as patch:
            patch.setattr(owner, call, counted)
            try:
                directory.write(second)
            except FileUnusable:
                stopped = True
            else:
                stopped = False
        found = directory.read()
        assert found in (first, second)
        assert found is not None
        check_material(found, NAME)
        if not stopped:
            assert found == second
            return
        directory.write(first)
    raise AssertionError("it never succeeded")


def test_few_former_sets_are_kept(tmp_path: Path) -> None:
    directory, made = MaterialDirectory(tmp_path / "peer"), material()
    for _ in range(5):
        directory.write(made)
    assert sorted(one.name for one in (tmp_path / "peer").iterdir()) == ["00000003", "00000004", "00000005", "current"]


def test_what_does_not_match_is_refused() -> None:
    made, other = material(), material()
    for wrong, name in (
        (replace(made, key_pem=other.key_pem), NAME),
        (replace(made, epoch=SECOND), NAME),
        (replace(made, crls_der=(NEW.crl(),)), NAME),
        (replace(made, certificate_der=b"none"), NAME),
        (made, f"two.{TRUST_DOMAIN}"),
    ):
        with pytest.raises(PeerMaterialWrong):
            check_material(wrong, name)


def test_a_set_that_was_changed_on_disk_is_not_read(tmp_path: Path) -> None:
    directory = MaterialDirectory(tmp_path / "peer")
    (directory.write(material()) / "bundle.pem").write_text("")
    with pytest.raises(PeerMaterialWrong):
        directory.read()
