"""The CA of `keyreeve up` as far as the start of other services needs it: `python -m fakes.local_ca COMMAND --config FILE`.

It takes a moment to serve, as the real one does.
"""

import argparse
import json
import sys
import time
from pathlib import Path

from fakes.local_service import FakeService, journal

START_SECONDS = 0.5


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("command")
    for option in ("--config", "--service", "--instance"):
        parser.add_argument(option)
    given = parser.parse_args()
    ca = FakeService(Path(given.config))
    match given.command:
        case "run":
            time.sleep(START_SECONDS)
            ca.serve()
        case "service-token":
            if (ca.config.parent / "refuse-tokens").exists():
                sys.stderr.write("TOKEN_NOT_ALLOWED: the fake makes no tokens\n")
                return 1
            number = sum(" gives token" in line for line in journal(ca.config.parent))
            token = f"token-{number + 1}-for-{given.service}/{given.instance}"
            ca.note(f"gives {token}")
            print(json.dumps({"token": token}))
        case "recover":
            ca.note("recovers")
            print(json.dumps({"replacements": [], "dead_hierarchies": []}))
        case "check":
            print(json.dumps([{"check": "tables", "ok": True, "message": "checked", "fix": ""}]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
