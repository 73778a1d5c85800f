"""Enrollment by a Kubernetes ServiceAccount: the API server vouches for a pod, and the pod gets an enrollment token.

Nothing in the token itself is believed: the API server's review of it says which account and which pod it is of
(https://kubernetes.io/docs/reference/kubernetes-api/authentication-resources/token-review-v1/).
"""

import re
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from keyreeve.errors import EnrollmentOff, ServiceAccountRefused
from keyreeve_ca.enrollment.rules import read_identity

POD_UID = "authentication.kubernetes.io/pod-uid"
POD_NAME = "authentication.kubernetes.io/pod-name"
CREDENTIAL_ID = "authentication.kubernetes.io/credential-id"
WORKLOAD = "workload"
MEMBER = "member"
LIFETIME_SECONDS = 600
"""Of the enrollment token: that of the ServiceAccount token for which it is exchanged."""

_USER = re.compile(r"system:serviceaccount:([a-z0-9-]{1,63}):([a-z0-9.-]{1,253})\Z")
_UID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")


class TokenReviewer(Protocol):
    """The TokenReview API."""

    async def review(self, token: str, audience: str) -> Mapping[str, Any]:
        """Return the `status` of the review. Raises `StoreUnavailable` when the API server does not answer."""
        ...


@dataclass(frozen=True, slots=True)
class Pod:
    """What the API server says of a pod whose token it accepts."""

    account: str
    """`namespace/account`."""
    name: str
    uid: str
    credential_id: str
    """Of its ServiceAccount token."""
    account_uid: str
    """For the audit log: the API server itself refuses a token of an account that was deleted, or made anew."""

    @property
    def request_id(self) -> str:
        """The request id under which its enrollment token is made: each ServiceAccount token is worth one."""
        return str(uuid.uuid5(uuid.UUID(self.uid), self.credential_id))


def pod_of(status: Mapping[str, Any], audience: str) -> Pod:
    """Read the status of a TokenReview. Raises `ServiceAccountRefused`."""
    if status.get("error") or status.get("authenticated") is not True:
        raise ServiceAccountRefused("the API server does not accept the ServiceAccount token")
    # A server that does not know audiences leaves them out, and has not checked them.
    if audience not in (status.get("audiences") or ()):
        raise ServiceAccountRefused(f"the ServiceAccount token is not for the audience {audience}")
    user = status.get("user") or {}
    extra = user.get("extra") or {}
    account = _USER.match(str(user.get("username", "")))
    if account is None:
        raise ServiceAccountRefused("the token is not of a ServiceAccount")
    account_uid = str(user.get("uid") or "")
    uid, credential_id = _only(extra, POD_UID), _only(extra, CREDENTIAL_ID)
    if not account_uid:
        raise ServiceAccountRefused("the API server does not say which UID the account has")
    if not _UID.match(uid) or not credential_id:
        raise ServiceAccountRefused("the token is not bound to a pod: a projected volume makes one that is")
    return Pod(f"{account[1]}/{account[2]}", _only(extra, POD_NAME), uid, credential_id, account_uid)


def path_of(pod: Pod, what: str) -> str:
    """The path of the identity that a pod gets.

    A member keeps its name through its pods: it is that of the account, which has one pod.
    """
    if what == WORKLOAD:
        return f"workloads/{pod.account}/{pod.uid}"
    if what == MEMBER:
        namespace, _, account = pod.account.partition("/")
        return f"members/{account}.{namespace}"
    return f"services/{what}/{pod.uid}"


def _only(extra: Mapping[str, Any], key: str) -> str:
    values: Sequence[Any] = extra.get(key) or ()
    return str(values[0]) if len(values) == 1 else ""


@dataclass(frozen=True)
class ServiceAccountExchange:
    """The use case behind `ExchangeServiceAccountToken`."""

    reviewer: TokenReviewer | None
    """None: the settings say nothing of Kubernetes."""
    services: Mapping[str, str]
    """Which account may become which service, a workload, or a member of an array."""
    audience: str
    trust_domain: str
    make_token: Callable[[str, str, str], Awaitable[str]]
    """Makes the enrollment token for an identity, with an address, under a request id; returns its text."""

    async def exchange(self, token: str, address: str, tell: Callable[[str, str], None]) -> str:
        """Return the text of an enrollment token that names `address`; `tell` notes facts for the audit log.

        Raises `EnrollmentOff`, `ServiceAccountRefused`, `StoreUnavailable`, `TokenUsed`.
        """
        if self.reviewer is None:
            raise EnrollmentOff("this control plane does not enroll by ServiceAccounts: enroll.kubernetes is not set")
        pod = pod_of(await self.reviewer.review(token, self.audience), self.audience)
        tell("account", pod.account)
        tell("account_uid", pod.account_uid)
        tell("pod", pod.name)
        what = self.services.get(pod.account)
        if what is None:
            raise ServiceAccountRefused(f"the account {pod.account} may become nothing")
        identity, _ = read_identity(f"spiffe://{self.trust_domain}/{path_of(pod, what)}", self.trust_domain)
        tell("identity", str(identity))
        return await self.make_token(str(identity), address, pod.request_id)
