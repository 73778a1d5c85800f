"""What a check knows of its pod: where to enroll, and the files with which it does."""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

from keyreeve.enrollment import exchange_service_account_token
from keyreeve.enrollment_token import EnrollmentToken


@dataclass(frozen=True)
class Pod:
    """The account of a pod, and the listener that lets it in."""

    listener: str
    trust_domain: str
    account_token: Path
    bundle: Path

    def enrollment_token(self) -> EnrollmentToken:
        """Exchange the account's token. Raises `KeyreeveError`, `OSError`."""
        return exchange_service_account_token(
            self.account_token.read_text("ascii").strip(),
            address=self.listener,
            roots=self.bundle.read_bytes(),
            trust_domain=self.trust_domain,
        )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what every check is told."""
    parser.add_argument("--enroll", required=True, metavar="HOST:PORT", help="the CA's enrollment listener")
    parser.add_argument("--trust-domain", required=True)
    parser.add_argument("--account-token", type=Path, default=Path("/var/run/secrets/keyreeve/token"))
    parser.add_argument("--bundle", type=Path, default=Path("/etc/keyreeve/bundle/control.pem"))
    parser.add_argument("--wait", type=float, default=0, metavar="SECONDS", help="how long to wait for the services")


def pod_of(given: argparse.Namespace) -> Pod:
    """The pod that the arguments tell of."""
    return Pod(given.enroll, given.trust_domain, given.account_token, given.bundle)


def say(line: str) -> None:
    """Print a step that has been done."""
    print(line, flush=True)  # noqa: T201


def fail(failure: Exception) -> int:
    """Print why the check has failed; return its exit code."""
    sys.stderr.write(f"failed: {failure}\n")
    return 1
