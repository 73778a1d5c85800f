"""TLS credentials from the files of a context, always a matching pair."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from keyreeve.context import Context
from keyreeve.errors import ContextInvalid, KeyTypeRefused
from keyreeve.identity import service_dns_name
from keyreeve.keys import parse_key
from keyreeve.renewal_files import next_path
from keyreeve.targets import is_loopback

Signature = tuple[tuple[int, int, int], ...]
"""Modification time, inode and size of each file; a change means that the contents may have changed."""

MAX_FILE_BYTES: Final = 1 << 20
_READS: Final = 3
"""How often a mismatched pair is read: another process may be between the two moves that replace it."""
_ROUND_ROBIN: Final = '{"loadBalancingConfig": [{"round_robin": {}}]}'


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """The contents of a context's bundle, certificate and key at one moment.

    Certificate and key belong together.
    """

    signature: Signature
    """Taken before the files were read, so that the next check notices a change in between."""
    digest: bytes
    """SHA-256 over the contents: files that were rewritten unchanged need no new channel."""
    bundle: bytes
    certificate: bytes
    key: bytes

    def channel_credentials(self) -> grpc.ChannelCredentials:
        """Make credentials that trust the bundle alone and present the certificate."""
        return grpc.ssl_channel_credentials(self.bundle, self.key, self.certificate)

    def __repr__(self) -> str:
        return f"TlsFiles(digest={self.digest.hex()})"  # never the key


def signature_of(context: Context) -> Signature | None:
    """Return the files' present signature; None when one does not exist."""
    try:
        found = [path.stat() for path in (context.bundle, context.certificate, context.key)]
    except OSError:
        return None
    return tuple((entry.st_mtime_ns, entry.st_ino, entry.st_size) for entry in found)


def read(context: Context) -> TlsFiles:
    """Read the context's files.

    Between the two moves of a renewal, the certificate is in the file of the next one (`keyreeve.renewal_files`). Raises
    `keyreeve.errors.ContextInvalid` when a file cannot be read or is malformed, or the certificate is not for the key.
    """
    for _ in range(_READS):
        signature = signature_of(context)
        bundle, certificate, key = (_contents(path) for path in (context.bundle, context.certificate, context.key))
        if signature is None:
            raise ContextInvalid("the files of the context have just been created: try again")
        _parse_certificates(context.bundle, bundle)
        public_key = _public_key_of(context.key, key)
        if _public_key_in(context.certificate, certificate) == public_key:
            break
        waiting = next_path(context.certificate)
        try:
            certificate = _contents(waiting)
            if _public_key_in(waiting, certificate) == public_key:
                break
        except ContextInvalid:
            pass  # it has been moved meanwhile, or does not exist
    else:
        raise ContextInvalid(
            f"the certificate in {context.certificate} is not for the key in {context.key}",
            metadata={"path": str(context.certificate)},
        )
    digest = hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in (bundle, certificate, key))).digest()
    return TlsFiles(signature, digest, bundle, certificate, key)


def channel_options(context: Context, service: str) -> list[tuple[str, str | int]]:
    """Make the gRPC channel arguments for a service of a context.

    They pin the service's DNS name, balance over its addresses and detect a dead peer.
    """
    addresses = context.addresses(service)
    # gRPC would ask a proxy of the environment for a list of addresses as if it were one host.
    proxy = len(addresses) == 1 and not is_loopback(addresses[0])
    options = _options(service_dns_name(service, context.trust_domain), proxy=proxy)
    return [*options, ("grpc.service_config", _ROUND_ROBIN)]


def pinned_options(address: str, name: str) -> list[tuple[str, str | int]]:
    """Make the gRPC channel arguments for one address.

    They pin the server's DNS name and detect a dead peer.
    """
    return _options(name, proxy=not is_loopback(address))


def _options(name: str, *, proxy: bool) -> list[tuple[str, str | int]]:
    # A Python client cannot read the server's certificate or match its SPIFFE ID; it can only demand a DNS name. The CA
    # issues this one to the service alone (docs/names.md), whatever the address is called.
    options: list[tuple[str, str | int]] = [
        ("grpc.ssl_target_name_override", name),
        ("grpc.default_authority", name),
        # A ping after a minute without traffic while calls wait; without calls, none.
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        # gRPC waits up to two minutes between attempts to connect; a restarted service is there in seconds.
        ("grpc.initial_reconnect_backoff_ms", 250),
        ("grpc.min_reconnect_backoff_ms", 5_000),
        ("grpc.max_reconnect_backoff_ms", 5_000),
        # gRPC asks the name service again after 30 s at the earliest; in Kubernetes all pods of a service may be new by then.
        ("grpc.dns_min_time_between_resolutions_ms", 1_000),
        # Otherwise channels to one address share connections, and with them the credentials that are being replaced.
        ("grpc.use_local_subchannel_pool", 1),
    ]
    if not proxy:  # one of the environment would dial its own loopback
        options.append(("grpc.enable_http_proxy", 0))
    return options


def _contents(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as failure:
        why = os.strerror(failure.errno) if failure.errno else str(failure)
        raise ContextInvalid(f"cannot read {path}: {why}", metadata={"path": str(path)}) from None
    if len(content) > MAX_FILE_BYTES:
        raise ContextInvalid(f"{path} is larger than {MAX_FILE_BYTES} bytes", metadata={"path": str(path)})
    return content


def _parse_certificates(path: Path, content: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(content)
    except ValueError:
        raise ContextInvalid(f"{path} contains no PEM certificate", metadata={"path": str(path)}) from None


def _public_key_in(path: Path, content: bytes) -> bytes:
    leaf = _parse_certificates(path, content)[0]
    return leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _public_key_of(path: Path, content: bytes) -> bytes:
    try:
        key = parse_key(content)
    except (ValueError, KeyTypeRefused) as failure:
        raise ContextInvalid(
            f"{path} contains no usable private key: {failure}", metadata={"path": str(path)}
        ) from None
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
