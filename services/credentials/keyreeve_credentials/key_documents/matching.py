"""Which key, certificate and bundle belong together."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

from keyreeve_credentials.key_documents.contents import is_ca, load_certificates, load_private_key, spki

_LONGEST_PATH = 10


@dataclass(frozen=True, slots=True)
class Verification:
    """Whether a certificate is asserted by a bundle, and what is wrong with the files."""

    verified: bool
    chain: tuple[str, ...]
    """Subjects from the certificate to the root, as far as they were found."""
    problems: tuple[str, ...]
    """Why it is not verified."""
    warnings: tuple[str, ...]
    """What the bundle's users may refuse: its order, its last line."""


def key_matches(key: bytes, certificate: bytes) -> bool:
    """Whether a key file and the first certificate of a file match. Raises `KeyFileUnreadable`."""
    return spki(load_private_key(key).public_key()) == spki(load_certificates(certificate)[0].public_key())


def verify_file(certificate: bytes, bundle: bytes, root: bytes | None, now: datetime) -> Verification:
    """Verify the first certificate of a file against a bundle, and a further file with the root if there is one.

    Raises `KeyFileUnreadable`. Revocation and name constraints are not looked at.
    """
    subject, *own = load_certificates(certificate)
    known = load_certificates(bundle) + ([] if root is None else load_certificates(root))
    path, problems = [subject], [*_out_of_date(subject, now)]
    while not _is_issued_by(path[-1], path[-1]):
        issuer = next((one for one in [*known, *own] if one not in path and _is_issued_by(path[-1], one)), None)
        if issuer is None:
            problems.append(f"no certificate of the bundle has issued {_text(path[-1])}")
            break
        problems += [*_may_not_issue(issuer, len(path) - 1), *_out_of_date(issuer, now)]
        path.append(issuer)
        if len(path) > _LONGEST_PATH:
            problems.append(f"the chain has more than {_LONGEST_PATH} certificates")
            break
    if path[-1] not in known:
        problems.append("the bundle does not contain the root")
    warnings = bundle_warnings(bundle) + ([] if len(own) == 0 else bundle_warnings(certificate))
    return Verification(
        not problems, tuple(_text(one) for one in path), tuple(problems), tuple(dict.fromkeys(warnings))
    )


def bundle_warnings(data: bytes) -> list[str]:
    """Say what is unusual in a bundle: entity certificate first, then intermediates, the root last; one final newline."""
    warnings = []
    certificates = load_certificates(data)
    if not in_order(certificates):
        warnings.append("the certificates are not in order: entity, intermediates, root")
    if b"-----BEGIN" in data and not ends_in_one_newline(data):
        warnings.append("the file does not end in exactly one newline")
    return warnings


def in_order(certificates: Sequence[x509.Certificate]) -> bool:
    """Whether each certificate is followed by its issuer, so that a root is last."""
    return all(_is_issued_by(one, other) for one, other in pairwise(certificates))


def ends_in_one_newline(data: bytes) -> bool:
    """Whether a text ends in exactly one newline."""
    text = data.replace(b"\r\n", b"\n")
    return text.endswith(b"\n") and not text.endswith(b"\n\n")


def ordered(certificates: Sequence[x509.Certificate]) -> list[x509.Certificate]:
    """Put certificates in the order of a bundle; those outside the first one's chain come last."""
    rest, path = list(certificates), []
    if rest:
        path.append(rest.pop(0))
    while rest:
        following = next((one for one in rest if _is_issued_by(path[-1], one)), None)
        if following is None:
            break
        rest.remove(following)
        path.append(following)
    return path + rest


def _is_issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    if certificate.issuer != issuer.subject:
        return False
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _may_not_issue(issuer: x509.Certificate, below: int) -> list[str]:
    """What forbids a certificate to issue, with this number of intermediates below it."""
    extensions = issuer.extensions
    problems = []
    if not is_ca(issuer):
        problems.append(f"{_text(issuer)} is not a CA's certificate")
    else:
        length = extensions.get_extension_for_class(x509.BasicConstraints).value.path_length
        if length is not None and below > length:
            problems.append(f"{_text(issuer)} allows {length} intermediates below it, and there are {below}")
    try:
        if not extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign:
            problems.append(f"{_text(issuer)} may not sign certificates")
    except x509.ExtensionNotFound:
        pass
    return problems


def _out_of_date(certificate: x509.Certificate, now: datetime) -> list[str]:
    if now < certificate.not_valid_before_utc:
        return [f"{_text(certificate)} is not valid before {certificate.not_valid_before_utc:%Y-%m-%dT%H:%M:%SZ}"]
    if now > certificate.not_valid_after_utc:
        return [f"{_text(certificate)} expired at {certificate.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}"]
    return []


def _text(certificate: x509.Certificate) -> str:
    return certificate.subject.rfc4514_string()
