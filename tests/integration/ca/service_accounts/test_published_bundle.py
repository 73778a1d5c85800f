"""The ConfigMap from which pods learn the roots, over HTTPS to a stand-in for the API server."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from keyreeve.errors import StoreUnavailable
from keyreeve_ca.service_accounts import bundle_publisher
from keyreeve_ca.service_accounts.api_server import ApiServer
from keyreeve_ca.service_accounts.bundle_publisher import BundlePublisher
from keyreeve_chassis.kubernetes.api_server import ApiAccess
from support import token_reviews

TRUST_BUNDLE = "/apis/certificates.k8s.io/v1/clustertrustbundles/example.test:estate:keyreeve"
PATH = "/api/v1/namespaces/control/configmaps/keyreeve-bundle"


@pytest.fixture
def stand_in(tmp_path: Path) -> Iterator[token_reviews.ApiServer]:
    with token_reviews.api_server(tmp_path) as server:
        yield server


@pytest.fixture
def publisher(stand_in: token_reviews.ApiServer, monkeypatch: pytest.MonkeyPatch) -> BundlePublisher:
    monkeypatch.setattr(
        bundle_publisher, "roots_pem", lambda snapshot, hierarchy: f"{hierarchy.value} {snapshot.roots}".encode()
    )
    snapshot: Any = SimpleNamespace(roots="one")
    api = ApiServer(ApiAccess(stand_in.url, stand_in.ca_file, stand_in.token_file))
    return BundlePublisher(api, "control/keyreeve-bundle", "example.test/estate", lambda: snapshot)


async def test_a_missing_config_map_is_created(stand_in: token_reviews.ApiServer, publisher: BundlePublisher) -> None:
    await publisher.publish()
    assert stand_in.objects[PATH]["data"] == {"control.pem": "control one", "estate.pem": "estate one"}
    assert stand_in.objects[TRUST_BUNDLE]["spec"] == {"signerName": "example.test/estate", "trustBundle": "estate one"}


async def test_one_that_was_deleted_comes_back(stand_in: token_reviews.ApiServer, publisher: BundlePublisher) -> None:
    await publisher.publish()
    del stand_in.objects[PATH]
    await publisher.publish()
    assert stand_in.objects[PATH]["data"]["control.pem"] == "control one"


async def test_new_roots_replace_the_old_ones_and_leave_the_rest(
    stand_in: token_reviews.ApiServer, publisher: BundlePublisher
) -> None:
    stand_in.objects[PATH] = {
        "metadata": {"name": "keyreeve-bundle"},
        "data": {"control.pem": "old", "mine": "kept"},
    }
    await publisher.publish()
    assert stand_in.objects[PATH]["data"] == {
        "control.pem": "control one",
        "estate.pem": "estate one",
        "mine": "kept",
    }


async def test_an_api_server_that_is_not_trusted_gets_no_token(
    stand_in: token_reviews.ApiServer, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    with token_reviews.api_server(other) as untrusted:
        api = ApiServer(ApiAccess(untrusted.url, stand_in.ca_file, stand_in.token_file))
        with pytest.raises(StoreUnavailable):
            await api.review("token", "audience")
