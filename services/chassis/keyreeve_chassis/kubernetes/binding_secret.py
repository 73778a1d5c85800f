"""The Secret in which a release remembers its database (keyreeve_chassis.database.binding)."""

import base64
from dataclasses import dataclass

from keyreeve_chassis.kubernetes.api_server import OK, ApiServerFailed, BlockingApi

KEY = "control-plane.json"


@dataclass(frozen=True, slots=True)
class BindingSecret:
    """A `BindingMemory` in one Secret, which has to exist: one that is missing might have remembered something."""

    api: BlockingApi
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"the Secret {self.namespace}/{self.name}"

    def read(self) -> bytes | None:
        """See `BindingMemory.read`."""
        text = (self._call("GET").get("data") or {}).get(KEY)
        return None if text is None else base64.b64decode(text, validate=True)

    def write(self, document: bytes) -> None:
        """See `BindingMemory.write`."""
        self._call("PATCH", {"data": {KEY: base64.b64encode(document).decode()}})

    def _call(self, method: str, document: dict[str, dict[str, str]] | None = None) -> dict[str, dict[str, str]]:
        path = f"/api/v1/namespaces/{self.namespace}/secrets/{self.name}"
        try:
            code, secret = self.api.call(method, path, document)
        except ApiServerFailed as failure:
            raise OSError(str(failure)) from None
        if code != OK:
            raise OSError(f"the API server answers {method} of {self} with {code}")
        return dict(secret)
