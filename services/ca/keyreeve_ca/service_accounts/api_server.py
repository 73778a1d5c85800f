"""The Kubernetes API server over HTTPS: reviews of tokens, and the ConfigMap of the bundle."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import ClientError, ClientSession, ClientTimeout

from keyreeve.errors import StoreUnavailable
from keyreeve_ca.service_accounts.service import TokenReviewer
from keyreeve_chassis.kubernetes.api_server import CONFLICT, CREATED, NOT_FOUND, OK, SECONDS, ApiAccess

REVIEWS = "/apis/authentication.k8s.io/v1/tokenreviews"
TRUST_BUNDLES = "/apis/certificates.k8s.io/v1/clustertrustbundles"


def trust_bundle_name(signer: str) -> str:
    """The name of a signer's ClusterTrustBundle, which the API server requires to begin like this."""
    return f"{signer.replace('/', ':')}:keyreeve"


@dataclass(frozen=True)
class ApiServer(TokenReviewer):
    """Called with the CA's own ServiceAccount. Every method raises `StoreUnavailable`."""

    access: ApiAccess

    async def review(self, token: str, audience: str) -> Mapping[str, Any]:
        """Return the `status` of the TokenReview of a token."""
        document = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": [audience]},
        }
        code, answer = await self._call("POST", REVIEWS, document)
        status = answer.get("status")
        if code not in {OK, CREATED} or not isinstance(status, dict):
            raise StoreUnavailable(f"the API server answers a TokenReview with {code}")
        return status

    async def write_config_map(self, namespace: str, name: str, data: Mapping[str, str]) -> bool:
        """Make a ConfigMap hold these texts, whatever else it holds; say whether anything had to change."""
        collection = f"/api/v1/namespaces/{namespace}/configmaps"
        return await self._write(collection, name, {"apiVersion": "v1", "kind": "ConfigMap"}, "data", data)

    async def write_trust_bundle(self, signer: str, pem: str) -> bool:
        """Make a ClusterTrustBundle of the signer hold these certificates; say whether anything had to change."""
        kind = {"apiVersion": "certificates.k8s.io/v1", "kind": "ClusterTrustBundle"}
        spec = {"signerName": signer, "trustBundle": pem}
        return await self._write(TRUST_BUNDLES, trust_bundle_name(signer), kind, "spec", spec)

    async def _write(
        self, collection: str, name: str, kind: Mapping[str, str], section: str, wanted: Mapping[str, str]
    ) -> bool:
        code, found = await self._call("GET", f"{collection}/{name}")
        held = found.get(section) or {}
        if code == OK and all(held.get(key) == text for key, text in wanted.items()):
            return False
        if code == NOT_FOUND:
            code, _ = await self._call("POST", collection, {**kind, "metadata": {"name": name}, section: wanted})
        elif code == OK:
            code, _ = await self._call("PATCH", f"{collection}/{name}", {section: wanted})
        # Another replica of the CA may have created it meanwhile; the next look compares.
        if code not in {OK, CREATED, CONFLICT}:
            raise StoreUnavailable(f"the API server answers the {kind['kind']} {name} with {code}")
        return True

    async def _call(
        self, method: str, path: str, document: Mapping[str, Any] | None = None
    ) -> tuple[int, Mapping[str, Any]]:
        try:
            tls, headers = await asyncio.to_thread(lambda: (self.access.tls(), self.access.headers(method)))
            async with (
                ClientSession(timeout=ClientTimeout(total=SECONDS)) as session,
                session.request(method, self.access.url + path, json=document, headers=headers, ssl=tls) as response,
            ):
                answer = await response.json()
                return response.status, answer if isinstance(answer, dict) else {}
        except (ClientError, TimeoutError, OSError, ValueError) as failure:
            # Of the failure the type alone: its text may hold what was sent.
            raise StoreUnavailable(f"the API server does not answer: {type(failure).__name__}") from None
