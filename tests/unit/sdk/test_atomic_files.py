"""Files appear whole, with the right mode, or not at all."""

import os
import stat
from pathlib import Path

import pytest

from keyreeve.files import PRIVATE, PUBLIC, write_atomically


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_atomically(path, b"old")
    before = path.stat().st_ino
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert path.stat().st_ino != before
    assert list(tmp_path.iterdir()) == [path], "nothing else is left behind"


@pytest.mark.parametrize("mask", [0o000, 0o077])
def test_the_mode_is_what_was_asked_for_whatever_the_umask(tmp_path: Path, mask: int) -> None:
    earlier = os.umask(mask)
    try:
        write_atomically(tmp_path / "private", b"", PRIVATE)
        write_atomically(tmp_path / "public", b"", PUBLIC)
    finally:
        os.umask(earlier)
    assert stat.S_IMODE((tmp_path / "private").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "public").stat().st_mode) == 0o644


def test_a_key_never_has_a_wider_mode_even_for_a_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modes: list[int] = []
    replace = Path.replace

    def look(self: Path, target: Path) -> Path:
        modes.append(stat.S_IMODE(self.stat().st_mode))
        return replace(self, target)

    opened: list[int] = []
    really_open = os.open

    def note(path: str, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_CREAT:
            assert flags & os.O_EXCL
            opened.append(mode)
        return really_open(path, flags, mode)

    monkeypatch.setattr(Path, "replace", look)
    monkeypatch.setattr(os, "open", note)
    write_atomically(tmp_path / "key", b"secret", PRIVATE)
    assert (opened, modes) == ([0o600], [0o600])


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    write_atomically(path, b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_bytes(b"theirs")
    link.symlink_to(target)
    write_atomically(link, b"ours", PRIVATE)
    assert target.read_bytes() == b"theirs"
    assert not link.is_symlink()
