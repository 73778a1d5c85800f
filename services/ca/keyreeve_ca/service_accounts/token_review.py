"""TokenReview of the Kubernetes API server over HTTPS."""

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import ClientError, ClientSession, ClientTimeout

from keyreeve.errors import StoreUnavailable
from keyreeve_ca.service_accounts.service import TokenReviewer

PATH = "/apis/authentication.k8s.io/v1/tokenreviews"
SECONDS = 5.0


@dataclass(frozen=True)
class KubernetesTokenReviewer(TokenReviewer):
    """Asks the API server with the CA's own ServiceAccount."""

    url: str
    ca_file: Path
    token_file: Path

    async def review(self, token: str, audience: str) -> Mapping[str, Any]:
        """Return the `status` of the review. Raises `StoreUnavailable`."""
        document = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": [audience]},
        }
        try:
            tls, own = await asyncio.to_thread(self._files)
            headers = {"Authorization": f"Bearer {own}"}
            async with (
                ClientSession(timeout=ClientTimeout(total=SECONDS)) as session,
                session.post(self.url + PATH, json=document, headers=headers, ssl=tls) as response,
            ):
                if response.status not in {200, 201}:
                    raise StoreUnavailable(f"the API server answers a TokenReview with {response.status}")
                status = (await response.json())["status"]
        except (ClientError, TimeoutError, OSError, ValueError, LookupError, TypeError) as failure:
            # Of the failure the type alone: its text may hold what was sent.
            raise StoreUnavailable(f"the API server does not review tokens: {type(failure).__name__}") from None
        if not isinstance(status, dict):
            raise StoreUnavailable("the API server answers a TokenReview without a status")
        return status

    def _files(self) -> tuple[ssl.SSLContext, str]:
        return ssl.create_default_context(cafile=self.ca_file), self.token_file.read_text("ascii").strip()
