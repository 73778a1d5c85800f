"""Check an installation in Kubernetes from a pod: enroll by its account, issue a certificate, verify it, revoke it.

The chart's test runs it. Prints a line for each step; exit code 1 when one fails.
"""

import argparse
import ssl
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.verification import PolicyBuilder, Store

from keyreeve import Client
from keyreeve.cli.installation.pod import Pod, add_arguments, fail, pod_of, say
from keyreeve.enrollment import enroll
from keyreeve.errors import KeyreeveError, Unavailable
from keyreeve.keys import make_csr, make_key, save_key
from keyreeve.values import CrlReason, Name

_PAUSE_SECONDS = 1.0
_FLIGHTS = 4
"""Of each side; TLS 1.3 needs two."""
NAME = "installation-check.keyreeve.test"


def check_installation(pod: Pod, directory: Path) -> None:
    """Run every step. Raises `KeyreeveError`, `OSError`, `cryptography.x509.verification.VerificationError`."""
    token = pod.enrollment_token()
    context = enroll(token, directory)
    say(f"enrolled as {token.identity}")
    with Client(context) as client:
        key = make_key()
        issued = client.certificates.sign("server", make_csr(key, [Name.dns(NAME)]))
        say(f"issued {issued.serial} for {NAME}")
        leaf, *chain = (x509.load_der_x509_certificate(der) for der in (issued.certificate_der, *issued.chain_der))
        roots = x509.load_pem_x509_certificates(context.estate_bundle.read_bytes())
        verifier = PolicyBuilder().store(Store(roots)).time(datetime.now(UTC)).build_server_verifier(x509.DNSName(NAME))
        verifier.verify(leaf, chain)
        say("verified it against the estate's root")
        save_key(pem := directory / "server.pem", key)
        with pem.open("ab") as file:
            file.writelines(one.public_bytes(Encoding.PEM) for one in (leaf, *chain))
        verify_with_openssl(pem, context.estate_bundle)
        say("verified it with OpenSSL")
        revoked = client.certificates.revoke(issued.serial, CrlReason.SUPERSEDED)
        say(f"revoked it at {revoked.revoked_at}")


def verify_with_openssl(pem: Path, roots: Path, name: str = NAME) -> None:
    """Verify a chain, of which the file holds the key too, with a second implementation: OpenSSL, which Python's `ssl` is.

    It is a TLS handshake in memory, since an image may be without the program. Raises `ssl.SSLError`, which is an `OSError`.
    """
    of_server, of_client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    of_server.load_cert_chain(pem)
    of_client.load_verify_locations(roots)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = of_client.wrap_bio(to_client, to_server, server_hostname=name)
    server = of_server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(_FLIGHTS):
        for side in (client, server):
            with suppress(ssl.SSLWantReadError):
                side.do_handshake()
    if client.version() is None or server.version() is None:
        raise ssl.SSLError("the handshake did not end")


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
