"""A service beside the CA that enrolls by the token that it finds: `python -m fakes.enrolling_service COMMAND --config FILE`.

It serves only once every service that the file `together` names has started, so that a start one after the other fails.
"""

import json
import stat
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from fakes.local_service import FakeService, journal
from keyreeve.enrollee_files import EnrolleeFiles
from keyreeve.service_files import identity_directory, needs_token, token_file
from support.peer_certificates import TestCa


def enroll(service: FakeService) -> bool:
    """Exchange the token for a certificate; say whether there was one."""
    found = token_file(service.state)
    if not found.exists():
        return False
    service.note(f"enrolls with {found.read_text().strip()} in a file of mode {stat.S_IMODE(found.stat().st_mode):o}")
    files = EnrolleeFiles(identity_directory(service.state))
    files.directory.mkdir(mode=0o700, exist_ok=True)
    leaf = TestCa.root("control").service(service.name)
    files.key.touch(mode=0o600)
    files.key.write_bytes(leaf.key_pem)
    files.certificate.write_bytes(leaf.pem)
    found.unlink()
    return True


def wait_for_the_others(service: FakeService) -> None:
    together = service.config.parent / "together"
    names = together.read_text().split() if together.exists() else []
    until = time.monotonic() + 20
    while not all(f"{name} started" in journal(service.config.parent) for name in names):
        if time.monotonic() > until:
            service.note("waited in vain")
            sys.exit(1)
        time.sleep(0.02)


def main() -> int:
    command, _, config = sys.argv[1:4]
    service = FakeService(Path(config))
    if command == "check":
        print(json.dumps([{"check": "tables", "ok": True, "message": "checked", "fix": ""}]))
        return 0
    service.note("started")
    wait_for_the_others(service)
    if needs_token(service.state, datetime.now(UTC)) and not enroll(service):
        service.note("has no certificate and no token")
        return 1
    service.serve()
    return 0


if __name__ == "__main__":
    sys.exit(main())
