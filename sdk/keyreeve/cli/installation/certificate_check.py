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
from keyreeve.cli.installation.pod import Pod, add_arguments, fail, pod_of, say
from keyreeve.enrollment import enroll
from keyreeve.errors import KeyreeveError, Unavailable
from keyreeve.keys import make_csr, make_key
from keyreeve.values import CrlReason, Name

_PAUSE_SECONDS = 1.0
NAME = "installation-check.keyreeve.test"


def check_installation(pod: Pod, directory: Path) -> None:
    """Run every step. Raises `KeyreeveError`, `OSError`, `cryptography.x509.verification.VerificationError`."""
    token = pod.enrollment_token()
    context = enroll(token, directory)
    say(f"enrolled as {token.identity}")
    with Client(context) as client:
        issued = client.certificates.sign("server", make_csr(make_key(), [Name.dns(NAME)]))
        say(f"issued {issued.serial} for {NAME}")
        leaf, *chain = (x509.load_der_x509_certificate(der) for der in (issued.certificate_der, *issued.chain_der))
        roots = x509.load_pem_x509_certificates(context.estate_bundle.read_bytes())
        verifier = PolicyBuilder().store(Store(roots)).time(datetime.now(UTC)).build_server_verifier(x509.DNSName(NAME))
        verifier.verify(leaf, chain)
        say("verified it against the estate's root")
        _verify_with_openssl(issued.certificate_der, issued.chain_der, context.estate_bundle, directory)
        revoked = client.certificates.revoke(issued.serial, CrlReason.SUPERSEDED)
        say(f"revoked it at {revoked.revoked_at}")


def _verify_with_openssl(leaf: bytes, chain: Sequence[bytes], roots: Path, directory: Path) -> None:
    """Verify it with a second implementation, where there is one. Raises `OSError`."""
    openssl = shutil.which("openssl")
    if openssl is None:
        say("this image has no openssl to verify it with")
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
    say("verified it with openssl")


def main(arguments: Sequence[str] | None = None) -> int:
    """Check, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m keyreeve.cli.installation.certificate_check", description=__doc__)
    add_arguments(parser)
    given = parser.parse_args(arguments)
    until = time.monotonic() + given.wait
    while True:
        try:
            with tempfile.TemporaryDirectory() as directory:
                check_installation(pod_of(given), Path(directory) / "identity")
        except Unavailable as failure:
            if time.monotonic() > until:
                return fail(failure)
            time.sleep(_PAUSE_SECONDS)
        except (KeyreeveError, OSError, x509.verification.VerificationError) as failure:
            return fail(failure)
        else:
            return 0


if __name__ == "__main__":
    sys.exit(main())
