"""Verification of certificates by a second implementation.

It is the `openssl` program or the path validation of RFC 5280, section 6.
"""

import ipaddress
import re
import shutil
import socket
import ssl
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from keyreeve.cli.supervision.local_services import Addresses, dialed
from keyreeve.cli.supervision.state_directory import StateDirectory
from keyreeve.errors import CertificateUntrusted

if TYPE_CHECKING:
    from cryptography import x509

VERIFY_SECONDS = 20
HANDSHAKE_SECONDS = 10

_CERTIFICATE_REPR = re.compile(r" *\(encountered processing <.*>\)", re.DOTALL)
"""How the library names a certificate in its messages: by its memory address or its empty subject."""


def verify_with_openssl(program: str, bundle: str, certificate: str, chain: str, purpose: str) -> None:
    """Verify PEM texts by `openssl verify -x509_strict`.

    `purpose` is `sslclient` or `sslserver`.

    Raises `CertificateUntrusted` with the output of the program.
    """
    with tempfile.TemporaryDirectory() as directory:
        files = {}
        for name, text in (("bundle", bundle), ("chain", chain), ("certificate", certificate)):
            files[name] = Path(directory) / f"{name}.pem"
            files[name].write_text(text)
        untrusted = ["-untrusted", str(files["chain"])] if chain else []
        done = subprocess.run(  # noqa: S603 (no shell; the files are ours)
            [
                *(program, "verify", "-x509_strict", "-purpose", purpose, "-no-CApath", "-no-CAstore"),
                *("-CAfile", str(files["bundle"]), *untrusted, str(files["certificate"])),
            ],
            capture_output=True,
            text=True,
            timeout=VERIFY_SECONDS,
            check=False,
        )
    if done.returncode != 0:
        raise CertificateUntrusted(f"`openssl verify -x509_strict` refused it: {' '.join(done.stderr.split())}")


def verify_own(bundle: str, certificate: str, chain: str, now: datetime) -> str:
    """Verify a client certificate by a second library; return its name.

    Raises `CertificateUntrusted`.
    """
    program = shutil.which("openssl")
    if program is not None:
        verify_with_openssl(program, bundle, certificate, chain, "sslclient")
        return "openssl verify -x509_strict"
    verify_for(load_pem(bundle), load_pem(certificate + chain), None, now)
    return "path validation of the cryptography package (no openssl program here)"


def check_trusted(state_directory: StateDirectory, addresses: Addresses) -> None:
    """Check that a service presents a certificate under the known roots.

    Raises `CertificateUntrusted` when it does not: another control plane has replaced the one of the state directory.
    """
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False  # only the root is checked; each call of the SDK checks the name
        context.load_verify_locations(state_directory.bundle)
        with suppress(
            ssl.SSLError
        ):  # a pair that is being renewed; the service shows its certificate before it asks for ours
            context.load_cert_chain(state_directory.certificate, state_directory.key)
        context.set_alpn_protocols(["h2"])
        with socket.create_connection((dialed(addresses.host), addresses.port), timeout=HANDSHAKE_SECONDS) as raw:
            context.wrap_socket(raw).close()
    except ssl.SSLCertVerificationError as problem:
        raise CertificateUntrusted(
            f"{addresses.endpoint} presents a certificate that does not lead to the roots in {state_directory.bundle} "
            f"({problem.verify_message}): another control plane has replaced the one that they are from. If that is "
            f"intended, remove {state_directory.context}, and `keyreeve up` gets the roots and a certificate of the new one"
        ) from problem
    except (OSError, ValueError) as problem:
        raise CertificateUntrusted(
            f"the certificate of {addresses.endpoint} cannot be verified with {state_directory.bundle}: {problem}"
        ) from problem


def load_pem(text: str) -> "list[x509.Certificate]":
    """Parse PEM certificates. Raises `ValueError` when there is none."""
    from cryptography import x509

    return x509.load_pem_x509_certificates(text.encode())


def verify_for(
    roots: "Sequence[x509.Certificate]", presented: "Sequence[x509.Certificate]", name: str | None, now: datetime
) -> "list[x509.Certificate]":
    """Build and validate a path from the first presented certificate to a root.

    Returns it, leaf first.

    `name` is the DNS name or IP address that a TLS client would connect to; a SPIFFE ID or None validates a client
    certificate. Raises `CertificateUntrusted`.
    """
    from cryptography.x509 import verification

    builder = verification.PolicyBuilder().store(verification.Store(list(roots))).time(now)
    leaf, others = presented[0], list(presented[1:])
    if (missing := _missing_issuer(leaf, [*others, *roots])) is not None:
        raise CertificateUntrusted(
            f"{_failure(name)}: the CA {missing!r}, which has signed it or its chain, is neither in the file nor among the roots"
        )
    if name is None and (server := server_name(leaf)) is not None:
        chain = verify_for(roots, presented, server, now)
        if not _is_for_clients(leaf):  # which no client verification accepts
            return chain
    try:
        if name is not None and not name.startswith("spiffe://"):
            return builder.build_server_verifier(_subject(name)).verify(leaf, others)
        chain = builder.build_client_verifier().verify(leaf, others).chain
    except (verification.VerificationError, ValueError) as problem:
        why = _CERTIFICATE_REPR.sub("", str(problem))
        raise CertificateUntrusted(f"{_failure(name)}: {why}") from None
    if name is not None and name not in uris_of(leaf):
        raise CertificateUntrusted(f"{_failure(name)}: it names {', '.join(uris_of(leaf)) or 'no URI'}")
    return chain


def _missing_issuer(leaf: "x509.Certificate", known: "Sequence[x509.Certificate]") -> str | None:
    """Return the name of the issuer where the path from a certificate ends before a root; None where it does not."""
    by_name = {each.subject: each for each in known}
    current, seen = leaf, set[object]()
    while current.issuer != current.subject and current.issuer not in seen:
        seen.add(current.issuer)
        issuer = by_name.get(current.issuer)
        if issuer is None:
            return current.issuer.rfc4514_string() or "(empty)"
        current = issuer
    return None


def _is_for_clients(leaf: "x509.Certificate") -> bool:
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID

    return ExtendedKeyUsageOID.CLIENT_AUTH in leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value


def server_name(leaf: "x509.Certificate") -> str | None:
    """Return a DNS name or IP address of a certificate that is for servers; None for one that is not."""
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID

    try:
        usages = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return None
    if ExtendedKeyUsageOID.SERVER_AUTH not in usages:
        return None
    dns = [name.replace("*", "any", 1) for name in names.get_values_for_type(x509.DNSName)]
    return next(iter([*dns, *map(str, names.get_values_for_type(x509.IPAddress))]), None)


def uris_of(certificate: "x509.Certificate") -> list[str]:
    """Return the URI names of a certificate."""
    from cryptography import x509

    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return names.get_values_for_type(x509.UniformResourceIdentifier)


def _failure(name: str | None) -> str:
    return "the certificate is not valid" + (f" for {name}" if name else "")


def _subject(name: str) -> "x509.verification.Subject":
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
