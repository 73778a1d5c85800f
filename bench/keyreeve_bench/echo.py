"""Echo rate: a service without any work, on the same gRPC stack, mutual TLS, message sizes and number of workers.

Its processes share a port (SO_REUSEPORT) and answer every call with the same octets. Its rate is what the transport
alone allows; the CA cannot answer single calls faster. `python -m keyreeve_bench.echo` is one of the workers.
"""

import datetime
import socket
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from keyreeve.context import Context
from keyreeve.errors import KeyreeveError
from keyreeve.identity import service_dns_name
from keyreeve_bench import children
from keyreeve_bench.children import Child, Document, Parent
from keyreeve_chassis.guard.call import Context as CallContext
from keyreeve_chassis.guard.route import Route
from keyreeve_chassis.guard.router import Kind
from keyreeve_chassis.rpc.limits import ByteBudget
from keyreeve_chassis.rpc.listener import Listener, Shared
from keyreeve_chassis.rpc.server import listener_limits
from keyreeve_chassis.settings.serving import ServingSettings
from keyreeve_chassis.tls import LiveServerCredentials, ServerIdentity

_TRUST_DOMAIN = "echo.localhost"
_LIFE = datetime.timedelta(days=2)


@asynccontextmanager
async def echo_service(directory: Path, answer: bytes, workers: int) -> AsyncIterator[Path]:
    """Run the service and yield the context file to call it with. `directory` takes its files."""
    orders = {"answer": b64encode(answer).decode()}
    async with service("keyreeve_bench.echo", directory, orders, workers) as (context, _):
        yield context


@asynccontextmanager
async def service(
    module: str, directory: Path, orders: Document, workers: int
) -> AsyncIterator[tuple[Path, list[Child]]]:
    """Run a service of several processes of a module; yield its context file and the processes."""
    with socket.socket() as held:  # reserves the port until the workers have opened it
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        _write_files(directory, port)
        told: list[Document] = [orders | {"directory": str(directory), "port": port}] * workers
        async with AsyncExitStack() as stack:
            yield directory / "context.json", await children.start_all(module, told, stack)


class _Echo:
    """Answers every call with the same octets."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer

    def route(self, name: str) -> Route:  # noqa: ARG002
        return Route(Kind.UNARY, self._unary, None, lambda _: None, self._refuse)

    async def _unary(self, request: bytes, context: CallContext) -> bytes:  # noqa: ARG002
        return self._answer

    async def _refuse(self, error: KeyreeveError, context: CallContext) -> None:
        """No call is refused."""


async def serve(orders: dict[str, Any], parent: Parent) -> Document:
    """Answer every call until the parent closes the pipe."""
    directory = Path(orders["directory"])
    chain, key, roots = ((directory / name).read_bytes() for name in ("server.pem", "server.key", "roots.pem"))
    settings = ServingSettings()
    tls = LiveServerCredentials(lambda: ServerIdentity(chain, key, roots)).build()
    echo = _Echo(b64decode(orders["answer"]))
    # Connections are spread over the processes as over the workers of the CA.
    shared = Shared(directory, "echo")
    listener = Listener(echo, listener_limits(settings), ByteBudget(settings.buffered_bytes), tls, shared=shared)
    listener.listen("127.0.0.1", orders["port"])
    try:
        await parent.ready()  # the parent sends no start time: serve until it closes the pipe
    finally:
        await listener.stop(0)
    return {}


def _write_files(directory: Path, port: int) -> None:
    root_key = ec.generate_private_key(ec.SECP256R1())
    root = _certificate("echo root", root_key, None, root_key)
    for name, dns in (("server", service_dns_name("ca", _TRUST_DOMAIN)), ("client", "client.localhost")):
        key = ec.generate_private_key(ec.SECP256R1())
        leaf = _certificate(dns, key, root, root_key)
        (directory / f"{name}.pem").write_bytes(leaf.public_bytes(serialization.Encoding.PEM))
        _write_key(directory / f"{name}.key", key)
    (directory / "roots.pem").write_bytes(root.public_bytes(serialization.Encoding.PEM))
    Context(
        _TRUST_DOMAIN,
        {"ca": f"127.0.0.1:{port}"},
        bundle=directory / "roots.pem",
        estate_bundle=directory / "roots.pem",
        certificate=directory / "client.pem",
        key=directory / "client.key",
    ).save(directory / "context.json")


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    path.touch(mode=0o600)
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


def _certificate(
    name: str, key: ec.EllipticCurvePrivateKey, issuer: x509.Certificate | None, issuer_key: ec.EllipticCurvePrivateKey
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + _LIFE)
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name.replace(" ", "-"))]), critical=False)
        .sign(issuer_key, hashes.SHA256())
    )


if __name__ == "__main__":
    children.serve_parent(serve)
