"""Verification of a sample with the `openssl` program."""

import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from keyreeve.values import to_pem


def verify(leaves: Sequence[tuple[bytes, tuple[bytes, ...]]], roots_pem: bytes) -> int | None:
    """Count the certificates (DER, with chains) that `openssl verify` accepts; None without the program.

    Only the roots are trusted; chains are checked with `-x509_strict`.
    """
    program = shutil.which("openssl")
    if program is None:
        return None
    good = 0
    with tempfile.TemporaryDirectory(prefix="keyreeve-bench-") as name:
        directory = Path(name)
        (directory / "roots.pem").write_bytes(roots_pem)
        for leaf, chain in leaves:
            (directory / "leaf.pem").write_text(to_pem([leaf]))
            (directory / "chain.pem").write_text(to_pem(chain))
            untrusted = ["-untrusted", "chain.pem"] if chain else []
            command = [program, "verify", "-x509_strict", "-CAfile", "roots.pem", *untrusted, "leaf.pem"]
            done = subprocess.run(command, cwd=directory, capture_output=True, check=False)  # noqa: S603 (our own files)
            good += done.returncode == 0
    return good


def release() -> str:
    """Release of the program; empty without it."""
    program = shutil.which("openssl")
    if program is None:
        return ""
    told = subprocess.run([program, "version"], capture_output=True, check=False).stdout.decode()  # noqa: S603
    found = re.match(r"OpenSSL (\S+)", told)
    return found[1] if found else told.strip()
