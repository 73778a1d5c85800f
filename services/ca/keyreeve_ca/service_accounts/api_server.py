"""The Kubernetes API server over HTTPS: reviews of tokens, and the ConfigMap of the bundle."""

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import ClientError, ClientSession, ClientTimeout

from keyreeve.errors import StoreUnavailable
from keyreeve_ca.service_accounts.service import TokenReviewer

REVIEWS = "/apis/authentication.k8s.io/v1/tokenreviews"
SECONDS = 5.0
_NOT_FOUND, _CONFLICT = 404, 409


@dataclass(frozen=True)
class ApiServer(TokenReviewer):
    """Called with the CA's own ServiceAccount. Every method raises `StoreUnavailable`."""

    url: str
    ca_file: Path
    token_file: Path

    async def review(self, token: str, audience: str) -> Mapping[str, Any]:
        """Return the `status` of the TokenReview of a token."""
        document = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": [audience]},
        }
        code, answer = await self._call("POST", REVIEWS, document)
        status = answer.get("status")
        if code not in {200, 201} or not isinstance(status, dict):
            raise StoreUnavailable(f"the API server answers a TokenReview with {code}")
        return status

    async def write_config_map(self, namespace: str, name: str, data: Mapping[str, str]) -> bool:
        """Make a ConfigMap hold these texts, whatever else it holds; say whether anything had to change."""
        path = f"/api/v1/namespaces/{namespace}/configmaps"
        code, found = await self._call("GET", f"{path}/{name}")
        held = found.get("data") or {}
        if code == 200 and all(held.get(key) == text for key, text in data.items()):
            return False
        if code == _NOT_FOUND:
            made = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}
            code, _ = await self._call("POST", path, made)
        elif code == 200:
            code, _ = await self._call("PATCH", f"{path}/{name}", {"data": data})
        # Another replica of the CA may have created it meanwhile; the next look compares.
        if code not in {200, 201, _CONFLICT}:
            raise StoreUnavailable(f"the API server answers the ConfigMap {namespace}/{name} with {code}")
        return True

    async def _call(
        self, method: str, path: str, document: Mapping[str, Any] | None = None
    ) -> tuple[int, Mapping[str, Any]]:
        content = "application/merge-patch+json" if method == "PATCH" else "application/json"
        try:
            tls, own = await asyncio.to_thread(self._files)
            headers = {"Authorization": f"Bearer {own}", "Content-Type": content}
            async with (
                ClientSession(timeout=ClientTimeout(total=SECONDS)) as session,
                session.request(method, self.url + path, json=document, headers=headers, ssl=tls) as response,
            ):
                answer = await response.json()
                return response.status, answer if isinstance(answer, dict) else {}
        except (ClientError, TimeoutError, OSError, ValueError) as failure:
            # Of the failure the type alone: its text may hold what was sent.
            raise StoreUnavailable(f"the API server does not answer: {type(failure).__name__}") from None

    def _files(self) -> tuple[ssl.SSLContext, str]:
        return ssl.create_default_context(cafile=self.ca_file), self.token_file.read_text("ascii").strip()
