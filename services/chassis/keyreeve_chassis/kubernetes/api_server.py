"""The Kubernetes API server over HTTPS, with the token of the pod's own ServiceAccount."""

import http.client
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from keyreeve_chassis.settings.sections import ApiServerSettings

SECONDS = 5.0
OK, CREATED = 200, 201
NOT_FOUND, CONFLICT = 404, 409

Answer = tuple[int, Mapping[str, Any]]
"""The HTTP status, and the object or `Status` that came with it."""


class ApiServerFailed(Exception):
    """The API server did not answer, or not as it should. The message holds nothing that was sent or received."""


@dataclass(frozen=True, slots=True)
class ApiAccess:
    """How the API server is reached. The files are read again for each call: the kubelet replaces them."""

    url: str
    ca_file: Path
    token_file: Path

    @classmethod
    def of(cls, settings: ApiServerSettings) -> Self:
        """Take them from the settings."""
        return cls(settings.api_url, settings.api_ca_file, settings.api_token_file)

    def tls(self) -> ssl.SSLContext:
        """What the server's certificate is verified with."""
        return ssl.create_default_context(cafile=self.ca_file)

    def headers(self, method: str) -> dict[str, str]:
        """The headers of a call."""
        content = "application/merge-patch+json" if method == "PATCH" else "application/json"
        token = self.token_file.read_text("ascii").strip()
        return {"Authorization": f"Bearer {token}", "Content-Type": content, "Accept": "application/json"}


@dataclass(frozen=True, slots=True)
class BlockingApi:
    """Calls from threads; each has a connection of its own."""

    access: ApiAccess

    def call(self, method: str, path: str, document: Mapping[str, Any] | None = None) -> Answer:
        """Send a request and return the answer. Raises `ApiServerFailed`."""
        address = urlsplit(self.access.url)
        try:
            connection = http.client.HTTPSConnection(
                address.hostname or "", address.port or 443, timeout=SECONDS, context=self.access.tls()
            )
            try:
                body = None if document is None else json.dumps(document)
                connection.request(method, path, body=body, headers=self.access.headers(method))
                response = connection.getresponse()
                answer = json.loads(response.read())
                return response.status, answer if isinstance(answer, dict) else {}
            finally:
                connection.close()
        except (http.client.HTTPException, OSError, ValueError) as failure:
            # Of the failure the type alone: its text may hold what was sent.
            raise ApiServerFailed(f"the API server does not answer: {type(failure).__name__}") from None
