"""A stand-in for a Kubernetes API server: TokenReview and objects by path over HTTPS, with the shapes of version 1.37."""

import json
import ssl
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

OWN_TOKEN = "the-ca-services-own-token"


def status_of(account: str, audience: str, pod_uid: str, credential: str) -> dict[str, Any]:
    """The status of a review that succeeded, of a pod of `namespace/account`."""
    namespace, _, name = account.partition("/")
    return {
        "authenticated": True,
        "user": {
            "username": f"system:serviceaccount:{namespace}:{name}",
            "uid": str(uuid.uuid4()),
            "groups": ["system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"],
            "extra": {
                "authentication.kubernetes.io/credential-id": [f"JTI={credential}"],
                "authentication.kubernetes.io/node-name": ["node-1"],
                "authentication.kubernetes.io/node-uid": [str(uuid.uuid4())],
                "authentication.kubernetes.io/pod-name": [f"{name}-5d9c7b6f4-x2x7q"],
                "authentication.kubernetes.io/pod-uid": [pod_uid],
            },
        },
        "audiences": [audience],
    }


@dataclass
class ApiServer:
    """Its address, its CA, and what it says of each token."""

    directory: Path
    statuses: dict[str, dict[str, Any]] = field(default_factory=dict)
    answers: int = 201
    """HTTP status of its answers."""
    objects: dict[str, dict[str, Any]] = field(default_factory=dict)
    """ConfigMaps, Secrets and so on, by path."""
    url: str = ""

    @property
    def ca_file(self) -> Path:
        return self.directory / "api-ca.pem"

    @property
    def token_file(self) -> Path:
        return self.directory / "api-token"

    def answer(self, document: dict[str, Any], authorization: str) -> tuple[int, dict[str, Any]]:
        if authorization != f"Bearer {OWN_TOKEN}":
            return 401, {"kind": "Status", "code": 401}
        refused = {"user": {}, "error": "[invalid bearer token, token lookup failed]"}
        status = self.statuses.get(document["spec"]["token"], refused)
        if not set(document["spec"]["audiences"]) & set(status.get("audiences", ())):
            status = refused if status is refused or "audiences" in status else status
        return self.answers, {**document, "status": status}

    def page(self, path: str, query: dict[str, list[str]]) -> tuple[int, dict[str, Any]]:
        """A page of the objects of a collection, which a field selector may limit to a type."""
        wanted = query.get("fieldSelector", [""])[0].removeprefix("type=")
        found = [
            one
            for name, one in sorted(self.objects.items())
            if name.rpartition("/")[0] == path and wanted in ("", one.get("type"))
        ]
        start, limit = int(query.get("continue", ["0"])[0]), int(query["limit"][0])
        following = str(start + limit) if start + limit < len(found) else ""
        return 200, {"items": found[start : start + limit], "metadata": {"continue": following}}


@contextmanager
def api_server(directory: Path) -> Iterator[ApiServer]:
    """Serve until the context ends."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "kubernetes")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    server = ApiServer(directory)
    server.ca_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    server.token_file.write_text(OWN_TOKEN + "\n")
    pair = directory / "api-server.pem"
    pair.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + server.ca_file.read_bytes()
    )

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            document = self.document()
            if self.path == "/apis/authentication.k8s.io/v1/tokenreviews":
                self.answer(*server.answer(document, self.headers["Authorization"]))
            else:
                path = f"{self.path}/{document['metadata']['name']}"
                created = server.objects.setdefault(path, document) is document
                self.answer(server.answers if created else 409, document)

        def do_GET(self) -> None:
            path, _, query = self.path.partition("?")
            if query:
                self.answer(*server.page(path, parse_qs(query)))
                return
            found = server.objects.get(path) if server.answers < 400 else None
            self.answer(200 if found else server.answers if server.answers >= 400 else 404, found or {"kind": "Status"})

        def do_PATCH(self) -> None:
            assert self.headers["Content-Type"] == "application/merge-patch+json"
            changed, found = self.document(), server.objects.get(self.path)
            if found is None or server.answers >= 400:
                self.answer(server.answers if server.answers >= 400 else 404, {"kind": "Status"})
                return
            for section, changes in changed.items():
                merged = {**found.get(section, {}), **changes}
                found[section] = {key: value for key, value in merged.items() if value is not None}
            self.answer(200, found)

        def document(self) -> Any:
            return json.loads(self.rfile.read(int(self.headers["Content-Length"])))

        def answer(self, code: int, document: Any) -> None:
            body = json.dumps(document).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None: ...

    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(pair)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        http.socket = tls.wrap_socket(http.socket, server_side=True)
        server.url = f"https://127.0.0.1:{http.server_port}"
        threading.Thread(target=http.serve_forever, daemon=True).start()
        try:
            yield server
        finally:
            http.shutdown()
