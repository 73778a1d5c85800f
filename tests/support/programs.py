"""Programs that tests use and that are not installed with this environment.

Where one is missing, its tests are skipped; in CI, where KEYREEVE_PROGRAMS=required, they fail and name it.
`python -m support.programs` prints the Debian packages of those that are missing.
"""

import os
import shutil
from pathlib import Path

import pytest

REQUIRED = "KEYREEVE_PROGRAMS"
FAKETIME = "libfaketime.so.1"
PROMTOOL = "promtool"
_ROOT = Path(__file__).parents[2]
PACKAGES = {
    "cc": "gcc",
    "certutil": "libnss3-tools",
    "crlutil": "libnss3-tools",
    "curl": "curl",
    "go": "",
    "haproxy": "haproxy",
    "javac": "default-jdk-headless",
    "keytool": "default-jre-headless",
    "mvn": "maven",
    FAKETIME: "libfaketime",
    "nginx": "nginx-light",
    "node": "nodejs",
    "npm": "npm",
    "openssl": "openssl",
    "pgbouncer": "pgbouncer",
    "pk12util": "libnss3-tools",
    "postgres": "postgresql",
    PROMTOOL: "",
    "ssh-keygen": "openssh-client",
    "stunnel4": "stunnel4",
    "systemd-analyze": "systemd",
    "tstclnt": "libnss3-tools",
    "vfychain": "libnss3-tools",
}
"""The Debian package of each. That of promtool is a server too, that of Go too old: `tools/NAME` installs these."""
_ELSEWHERE = ("/usr/sbin", "/usr/local/sbin", str(_ROOT / ".bench" / "bin"))


def needs(*names: str) -> pytest.MarkDecorator:
    """Mark tests that need programs."""
    assert PACKAGES.keys() >= set(names)
    return pytest.mark.needs(*names)


def find_program(name: str) -> str:
    """Return the path of a program. Where there is none, the test is skipped; in CI it fails."""
    found = _find(name)
    if found is not None:
        return found
    how = f"Debian: apt-get install {PACKAGES[name]}" if PACKAGES[name] else f"run tools/{name}"
    missing = f"{name} is not installed ({how})"
    if os.environ.get(REQUIRED) == "required":
        pytest.fail(missing, pytrace=False)
    pytest.skip(missing)


def _find(name: str) -> str | None:
    if name == FAKETIME:
        return next((str(path) for path in sorted(Path("/usr/lib").glob(f"*/faketime/{name}"))), None)
    if name == "postgres":  # the one in the environment of the tests is built without TLS
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), reverse=True)
        return str(found[0]) if found else None
    return shutil.which(name) or shutil.which(name, path=":".join(_ELSEWHERE))


if __name__ == "__main__":
    print(*sorted({package for name, package in PACKAGES.items() if package and _find(name) is None}))
