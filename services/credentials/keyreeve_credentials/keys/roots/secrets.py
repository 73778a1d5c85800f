"""The root provider in Kubernetes: one Secret for each key-encryption key, in a namespace of their own.

    Secret keyreeve-kek-{kek_id}, type keyreeve/kek
      data.kek        the key, sealed under a mounted root key (keyreeve_chassis.keys.sealed), bound to its array and id
      data.destroyed  instead of it: this id is used up

The object stays when a key is destroyed, so that one request destroys the key and keeps its id from being used again. The API
server's storage keeps earlier revisions until it compacts them (etcd: within minutes); what they hold opens only under the
root key. RBAC cannot limit `create` to names, hence the namespace.
"""

import base64
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from keyreeve.errors import StoreUnavailable, VaultKeyUnavailable
from keyreeve_chassis.keys.ports import KeyStoreError
from keyreeve_chassis.keys.sealed import KEK_BYTES, SealedKeyStore, read_kek_mount
from keyreeve_chassis.kubernetes.api_server import (
    CONFLICT,
    CREATED,
    NOT_FOUND,
    OK,
    ApiServerFailed,
    BlockingApi,
)
from keyreeve_credentials.keys.ports import OpenKek

_LABEL: Final = "keyreeve-vault-root"
_KIND: Final = "kek"
_TYPE: Final = "keyreeve/kek"
_PREFIX: Final = "keyreeve-kek-"
_KEK, _DESTROYED = "kek", "destroyed"
_PAGE: Final = 500
_NAME = re.compile(rf"{_PREFIX}([0-9a-f]{{32}})\Z")


@dataclass(frozen=True)
class RootSecrets:
    """A `RootProvider` on the Secrets of one namespace."""

    api: BlockingApi
    namespace: str
    _store: SealedKeyStore

    def create(self, array_id: str, kek_id: str) -> None:
        """See `RootProvider.create`."""
        sealed = self._store.seal(_KIND, f"{array_id}/{kek_id}", os.urandom(KEK_BYTES))
        code, _ = self._call("POST", self._secrets, self._secret(kek_id, _KEK, sealed))
        if code == CONFLICT:
            raise VaultKeyUnavailable(f"the key {kek_id} exists or has been destroyed; its id is not used again")
        self._require(code == CREATED, "the creation of a key-encryption key", code)

    def open(self, array_id: str, kek_id: str) -> OpenKek:
        """See `RootProvider.open`."""
        code, secret = self._call("GET", self._path(kek_id))
        data = secret.get("data") or {}
        if code == OK and _DESTROYED in data:
            raise VaultKeyUnavailable(f"the key {kek_id} has been destroyed", metadata={"key": kek_id})
        try:
            self._require(code in {OK, NOT_FOUND}, "a read of a key-encryption key", code)
            sealed = base64.b64decode(data.get(_KEK, ""), validate=True)
            return AESGCM(self._store.unseal(_KIND, f"{array_id}/{kek_id}", sealed))
        except (KeyStoreError, ValueError, TypeError) as error:
            raise VaultKeyUnavailable(
                f"the key {kek_id} of {array_id} does not open: its Secret in the namespace {self.namespace} is missing or "
                "damaged, or the root key is not the one that sealed it",
                metadata={"key": kek_id},
            ) from error

    def list(self) -> Sequence[str]:
        """See `RootProvider.list`."""
        found: list[str] = []
        following = ""
        while True:
            query = {"limit": str(_PAGE), "fieldSelector": f"type={_TYPE}"} | (
                {"continue": following} if following else {}
            )
            code, page = self._call("GET", f"{self._secrets}?{urlencode(query)}")
            self._require(code == OK, "a list of the key-encryption keys", code)
            for secret in page.get("items") or ():
                name = _NAME.match(secret["metadata"]["name"])
                if name is not None and _KEK in (secret.get("data") or {}):
                    found.append(name[1])
            following = (page.get("metadata") or {}).get("continue") or ""
            if not following:
                return sorted(found)

    def destroy(self, kek_id: str) -> None:
        """See `RootProvider.destroy`."""
        gone = self._secret(kek_id, _DESTROYED, b"1")
        code, _ = self._call("PATCH", self._path(kek_id), {"data": {_KEK: None, **gone["data"]}})
        if code == NOT_FOUND:
            code, _ = self._call("POST", self._secrets, gone)
        self._require(code in {OK, CREATED}, "the destruction of a key-encryption key", code)

    def confirm(self, kek_id: str) -> bool:
        """See `RootProvider.confirm`."""
        code, secret = self._call("GET", self._path(kek_id))
        self._require(code in {OK, NOT_FOUND}, "a read of a key-encryption key", code)
        data = secret.get("data") or {}
        return code == OK and _KEK not in data and _DESTROYED in data

    @property
    def _secrets(self) -> str:
        return f"/api/v1/namespaces/{self.namespace}/secrets"

    def _path(self, kek_id: str) -> str:
        return f"{self._secrets}/{self._name(kek_id)}"

    def _name(self, kek_id: str) -> str:
        name = f"{_PREFIX}{kek_id}"
        if not _NAME.match(name):
            raise VaultKeyUnavailable("a key-encryption key's id is 32 hexadecimal digits")
        return name

    def _secret(self, kek_id: str, key: str, value: bytes) -> dict[str, Any]:
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": _TYPE,
            "metadata": {"name": self._name(kek_id), "labels": {"app.kubernetes.io/managed-by": "keyreeve"}},
            "data": {key: base64.b64encode(value).decode()},
        }

    def _call(self, method: str, path: str, document: Mapping[str, Any] | None = None) -> tuple[int, Mapping[str, Any]]:
        try:
            return self.api.call(method, path, document)
        except ApiServerFailed as failure:
            raise StoreUnavailable(f"a key-encryption key cannot be used: {failure}") from None

    def _require(self, holds: bool, what: str, code: int) -> None:
        if not holds:
            # Another replica may do better: the token of a pod that was deleted is refused while its process goes on.
            raise StoreUnavailable(f"the API server answers {what} in the namespace {self.namespace} with {code}")


def open_root_secrets(api: BlockingApi, namespace: str, root_key_file: Path) -> RootSecrets:
    """Open the provider with the mounted root key, which it never makes. Raises `KeyStoreError`."""
    return RootSecrets(api, namespace, SealedKeyStore(read_kek_mount(root_key_file), _LABEL))
