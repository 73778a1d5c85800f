"""Check an installation in Kubernetes from a pod: enroll by its account, issue a certificate, verify it, revoke it.

The chart's test runs it. Prints a line for each step; exit code 1 when one fails.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.verification import PolicyBuilder, Store

from keyreeve import Client
from keyreeve.enrollment import enroll, exchange_service_account_token
from keyreeve.errors import KeyreeveError, Unavailable
from keyreeve.keys import make_csr, make_key
from keyreeve.values import CrlReason, Name

_PAUSE_SECONDS = 1.0
NAME = "installation-check.keyreeve.test"


def check_installation(listener: str, trust_domain: str, account_token: Path, bundle: Path, directory: Path) -> None:
    """Run every step. Raises `KeyreeveError`, `OSError`, `cryptography.x509.verification.VerificationError`."""
    token = exchange_service_account_token(
        account_token.read_text("ascii").strip(),
        address=listener,
        roots=bundle.read_bytes(),
        trust_domain=trust_domain,
    )
    context = enroll(token, directory)
    _say(f"enrolled as {token.identity}")
    with Client(context) as client:
        issued = client.certificates.sign("server", make_csr(make_key(), [Name.dns(NAME)]))
        _say(f"issued {issued.serial} for {NAME}")
        leaf, *chain = (x509.load_der_x509_certificate(der) for der in (issued.certificate_der, *issued.chain_der))
        roots = x509.load_pem_x509_certificates(context.estate_bundle.read_bytes())
        verifier = PolicyBuilder().store(Store(roots)).time(datetime.now(UTC)).build_server_verifier(x509.DNSName(NAME))
        verifier.verify(leaf, chain)
        _say("verified it against the estate's root")
        _verify_with_openssl(issued.certificate_der, issued.chain_der, context.estate_bundle, directory)
        revoked = client.certificates.revoke(issued.serial, CrlReason.SUPERSEDED)
        _say(f"revoked it at {revoked.revoked_at}")


def _verify_with_openssl(leaf: bytes, chain: Sequence[bytes], roots: Path, directory: Path) -> None:
    """Verify it with a second implementation, where there is one. Raises `OSError`."""
    openssl = shutil.which("openssl")
    if openssl is None:
        _say("this image has no openssl to verify it with")
        return
    files = {"leaf": [leaf], "chain": chain}
    for name, certificates in files.items():
        pem = b"".join(x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM) for der in certificates)
        (directory / f"{name}.pem").write_bytes(pem)
    command = [openssl, "verify", "-CAfile", str(roots), "-untrusted", "chain.pem", "-purpose", "sslserver"]
    command += ["-verify_hostname", NAME, "leaf.pem"]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise OSError(f"openssl does not verify the certificate: {done.stdout}{done.stderr}")
    _say("verified it with openssl")


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201


def main(arguments: Sequence[str] | None = None) -> int:
    """Check, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m keyreeve.cli.installation_check", description=__doc__)
    parser.add_argument("--enroll", required=True, metavar="HOST:PORT", help="the CA's enrollment listener")
    parser.add_argument("--trust-domain", required=True)
    parser.add_argument("--account-token", type=Path, default=Path("/var/run/secrets/keyreeve/token"))
    parser.add_argument("--bundle", type=Path, default=Path("/etc/keyreeve/bundle/control.pem"))
    parser.add_argument("--wait", type=float, default=0, metavar="SECONDS", help="how long to wait for the services")
    given = parser.parse_args(arguments)
    until = time.monotonic() + given.wait
    while True:
        try:
            with tempfile.TemporaryDirectory() as directory:
                check_installation(
                    given.enroll, given.trust_domain, given.account_token, given.bundle, Path(directory) / "identity"
                )
        except Unavailable as failure:
            if time.monotonic() > until:
                return _fail(failure)
            time.sleep(_PAUSE_SECONDS)
        except (KeyreeveError, OSError, x509.verification.VerificationError) as failure:
            return _fail(failure)
        else:
            return 0


def _fail(failure: Exception) -> int:
    sys.stderr.write(f"failed: {failure}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
