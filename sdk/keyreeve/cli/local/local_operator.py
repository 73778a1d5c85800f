"""The operator at this machine: name, key, certificate and context."""

import getpass
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keyreeve.cli.certificates.trust_checks import load_pem, uris_of, verify_own
from keyreeve.cli.supervision.local_services import Service, ca_of, read_addresses
from keyreeve.cli.supervision.service_program import ask
from keyreeve.cli.supervision.state_directory import StateDirectory, write_file
from keyreeve.errors import ContextInvalid, FileUnusable

if TYPE_CHECKING:
    from cryptography import x509

    from keyreeve.context import Context

_LONGEST_NAME = 63


def recover(state_directory: StateDirectory, *arguments: str, module: str = "keyreeve_ca") -> dict[str, Any]:
    """Have the CA on this machine replace what has expired; return its report.

    Raises `NotThereYet`, `StartFailed`.
    """
    report: dict[str, Any] = ask("recover", state_directory.config("ca"), *arguments, module=module)
    return report


@dataclass(frozen=True, slots=True)
class Operator:
    """The identity that a certificate gives the operator, and its validity."""

    identity: str
    not_before: datetime
    not_after: datetime
    verified_by: str = ""
    """The second library that accepted the certificate when it was issued; empty for one from an earlier start."""

    def wants_renewal(self, now: datetime) -> bool:
        """Say whether the certificate has expired or is in the last third of its life."""
        return now >= self.not_before + (self.not_after - self.not_before) * 2 / 3


def operator_name(login: str) -> str:
    """Turn a login name into the last segment of an operator's identity.

    It consists of lower-case letters, digits and `-`.
    """
    return re.sub(r"[^a-z0-9]+", "-", login.lower()).strip("-")[:_LONGEST_NAME].strip("-") or "admin"


def login_name() -> str:
    """The login name of the user; `admin` where the system has none for the user id."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container may run under a user id without a name
        return "admin"


def find_operator(state_directory: StateDirectory) -> Operator | None:
    """Read the operator's certificate; None when there is none that can be read."""
    try:
        return describe(load_pem(state_directory.certificate.read_text())[0])
    except (OSError, ValueError):
        return None


def describe(certificate: "x509.Certificate") -> Operator:
    """Read the identity and validity of an operator's certificate."""
    identity = next(iter(uris_of(certificate)), certificate.subject.rfc4514_string())
    return Operator(identity, certificate.not_valid_before_utc, certificate.not_valid_after_utc)


def issue_operator_certificate(state_directory: StateDirectory, services: Sequence[Service], now: datetime) -> Operator:
    """Get an admin certificate from the CA on this machine, and write the context.

    The certificate is verified by a second library first.

    The key is made here and never leaves. The context file is written last, so that a program that finds it finds the
    rest. Raises `NotThereYet` while the CA's local socket is not open, `StartFailed`, `CertificateUntrusted`.
    """
    from keyreeve.keys import PrivateKey, make_csr, make_key, save_key
    from keyreeve.renewal_files import discard_renewal, lock_pair

    key: PrivateKey = make_key()
    csr = _pem_csr(make_csr(key))
    issued: dict[str, Any] = ask(
        "first-operator",
        state_directory.config("ca"),
        "--name",
        operator_name(login_name()),
        module=ca_of(services).module,
        given=csr.encode(),
    )
    leaf, chain = str(issued["certificate_pem"]), str(issued["chain_pem"])
    verified_by = verify_own(str(issued["control_bundle_pem"]), leaf, chain, now)
    try:
        with lock_pair(state_directory.key, wait=True):
            discard_renewal(state_directory.certificate, state_directory.key)
            save_key(state_directory.key, key)
            write_file(state_directory.certificate, (leaf + chain).encode())
    except OSError as problem:
        raise FileUnusable(f"cannot write {state_directory.key}: {problem.strerror}") from problem
    write_file(state_directory.bundle, str(issued["control_bundle_pem"]).encode())
    write_file(state_directory.estate_bundle, str(issued["estate_bundle_pem"]).encode())
    trust_root = issued["trust_root"]
    write_file(
        state_directory.trust_root, trust_root.encode() if isinstance(trust_root, str) else dump_json(trust_root)
    )
    update_context(state_directory, services)
    operator = describe(load_pem(leaf)[0])
    return Operator(operator.identity, operator.not_before, operator.not_after, verified_by)


def update_context(state_directory: StateDirectory, services: Sequence[Service]) -> None:
    """Write the context file unless it has the settings in force already."""
    from keyreeve.context import Context

    addresses = {service.name: read_addresses(state_directory, service) for service in services}
    known = _known_context(state_directory.context)
    elsewhere = {} if known is None else dict(known.endpoints)
    context = Context(
        trust_domain=addresses["ca"].trust_domain,
        endpoints=elsewhere | {name: (each.endpoint,) for name, each in addresses.items()},
        http=addresses["ca"].http_url,
        bundle=state_directory.bundle,
        estate_bundle=state_directory.estate_bundle,
        certificate=state_directory.certificate,
        key=state_directory.key,
    )
    if context != known:
        context.save(state_directory.context)


def _known_context(file: Path) -> "Context | None":
    """Read a context file; None when it cannot be read."""
    from keyreeve.context import Context

    try:
        return Context.load(file)
    except ContextInvalid:
        return None


def root_fingerprints(state_directory: StateDirectory) -> dict[str, list[str]]:
    """SHA-256 of the roots of each hierarchy, in lower-case hexadecimal."""
    from hashlib import sha256

    from keyreeve.keys import load_certificates

    return {
        line: [sha256(der).hexdigest() for der in load_certificates(bundle)]
        for line, bundle in (("control", state_directory.bundle), ("estate", state_directory.estate_bundle))
    }


def dump_json(document: object) -> bytes:
    """Write a JSON document as a file holds it."""
    import json

    return (json.dumps(document, indent=1) + "\n").encode()


def utc_now() -> datetime:
    """The system clock; commands take it once and pass it on."""
    return datetime.now(UTC)


def _pem_csr(der: bytes) -> str:
    from base64 import b64encode
    from textwrap import wrap

    lines = "\n".join(wrap(b64encode(der).decode(), 64))
    return f"-----BEGIN CERTIFICATE REQUEST-----\n{lines}\n-----END CERTIFICATE REQUEST-----\n"
