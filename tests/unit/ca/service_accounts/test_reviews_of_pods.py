"""What a TokenReview must say of a pod before it may become a service."""

import uuid
from typing import Any

import pytest

from keyreeve.errors import EnrollmentOff, ServiceAccountRefused
from keyreeve_ca.service_accounts.service import ServiceAccountExchange, pod_of
from support.token_reviews import status_of

AUDIENCE = "keyreeve:example.test"
POD = "0b5f1a4e-7c43-4a53-9a39-f1a2b3c4d5e6"


def status(**changes: Any) -> dict[str, Any]:
    return status_of("control/membership", AUDIENCE, POD, "one") | changes


def user(**changes: Any) -> dict[str, Any]:
    return {"user": status()["user"] | changes}


def extra(key: str, *values: str) -> dict[str, Any]:
    before = status()["user"]["extra"]
    return user(extra=before | {f"authentication.kubernetes.io/{key}": list(values)})


def test_a_pod_is_read_from_the_review() -> None:
    pod = pod_of(status(), AUDIENCE)
    assert (pod.account, pod.name, pod.uid) == ("control/membership", "membership-5d9c7b6f4-x2x7q", POD)


@pytest.mark.parametrize(
    "changes",
    [
        {"authenticated": False},
        {"authenticated": "true"},
        {"error": "token expired"},
        {"audiences": []},
        {"audiences": None},
        {"audiences": ["https://kubernetes.default.svc"]},
        {"user": None},
        user(username="system:node:node-1"),
        user(username="system:serviceaccount:control:membership:more"),
        user(username="system:serviceaccount:control:"),
        user(username="x system:serviceaccount:control:membership"),
        user(username="system:serviceaccount:control:membership\n"),
        user(uid=""),
        user(uid=None),
        user(extra={}),
        extra("pod-uid"),
        extra("pod-uid", POD, POD),
        extra("pod-uid", "../admin"),
        extra("credential-id"),
    ],
)
def test_any_other_review_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ServiceAccountRefused):
        pod_of(status(**changes), AUDIENCE)


def test_a_request_id_belongs_to_one_token_of_one_pod() -> None:
    ids = {
        pod_of(status_of("control/membership", AUDIENCE, pod, credential), AUDIENCE).request_id
        for pod in (POD, str(uuid.uuid4()))
        for credential in ("one", "two")
    }
    assert len(ids) == 4
    assert pod_of(status(), AUDIENCE).request_id in ids


async def test_without_settings_no_account_is_let_in() -> None:
    async def make(_identity: str, _address: str, _request_id: str) -> str:
        raise AssertionError("no token is made")

    exchange = ServiceAccountExchange(None, {"control/membership": "membership"}, AUDIENCE, "example.test", make)
    with pytest.raises(EnrollmentOff):
        await exchange.exchange("token", "", lambda *_: None)
