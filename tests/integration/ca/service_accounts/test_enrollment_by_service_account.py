"""A service of a Kubernetes pod enrolls with its ServiceAccount token: a real CA, a stand-in for the API server."""

import asyncio
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509

from keyreeve import Client, Context, aio, errors
from keyreeve._blocking.identity_renewal import IdentityRenewal
from keyreeve.identity import SpiffeId
from keyreeve.values import CertificateState
from keyreeve_ca.settings import KubernetesSettings
from keyreeve_chassis.identity.evidence import TokenFile
from keyreeve_chassis.identity.keeping import ServiceIdentity
from keyreeve_chassis.identity.service_account import ServiceAccountToken
from support.command_line import runner
from support.enrolling import OPEN_TO_TESTS, address_of
from support.gateway_sessions import open_session
from support.running_ca import ADMIN, AUDITOR, RunningCa, running
from support.token_reviews import ApiServer, api_server, status_of
from support.waiting import wait_for

pytestmark = pytest.mark.sqlite_first

ACCOUNTS = {
    "control/keyreeve-membership": "membership",
    "control/keyreeve-credentials": "credentials",
    "control/keyreeve-gateway": "gateway",
    "shop/web": "workload",
    "shop/array.one": "member",
}


@dataclass
class Cluster:
    ca: RunningCa
    api: ApiServer

    @property
    def audience(self) -> str:
        return f"keyreeve:{self.ca.settings.trust_domain}"


@pytest.fixture(params=["sqlite", "postgresql"], scope="module")
def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with api_server(tmp_path_factory.mktemp("api")) as api:
        kubernetes = KubernetesSettings(
            accounts=ACCOUNTS, api_url=api.url, api_ca_file=api.ca_file, api_token_file=api.token_file
        )
        enroll = OPEN_TO_TESTS.model_copy(update={"kubernetes": kubernetes})
        with running(request.param, request, workers=2, enroll=enroll) as ca:
            yield Cluster(ca, api)


@dataclass
class Pod:
    """A pod with its volumes."""

    cluster: Cluster
    directory: Path
    account: str = "control/keyreeve-membership"

    def __post_init__(self) -> None:
        self.uid = str(uuid.uuid4())
        self.bundle = self.directory / "bundle.pem"
        self.bundle.write_bytes(self.cluster.ca.context(ADMIN).bundle.read_bytes())
        self.new_token()

    def new_token(self, audience: str | None = None) -> None:
        """What the kubelet does before a token expires."""
        token = f"header.{uuid.uuid4()}.signature"
        status = status_of(self.account, audience or self.cluster.audience, self.uid, str(uuid.uuid4()))
        self.cluster.api.statuses[token] = status
        (self.directory / "token").write_text(token)

    def identity(self, service: str = "membership") -> SpiffeId:
        return self.cluster.ca.spiffe_id(f"services/{service}/{self.uid}")

    def evidence(self, state: str = "state") -> ServiceAccountToken:
        kept = TokenFile(self.directory / f"{state}-enrollment-token")
        return ServiceAccountToken(self.directory / "token", self.bundle, address_of(self.cluster.ca), kept)

    async def enroll(self, state: str = "state", *, service: str = "membership") -> Context:
        directory = self.directory / state / "enrolling"
        assert await self.evidence(state).enroll(self.identity(service), directory)
        return await ServiceIdentity(self.identity(service), self.directory / state, self.evidence(state)).obtain()


def serial_of(context: Context) -> str:
    return f"{x509.load_pem_x509_certificates(context.certificate.read_bytes())[0].serial_number:032x}"


def renew(context: Context) -> None:
    with Client(context) as client:
        IdentityRenewal(context, client).renew()


@pytest.fixture
def pod(cluster: Cluster, tmp_path: Path) -> Pod:
    return Pod(cluster, tmp_path)


async def test_a_pod_becomes_the_service_of_its_account(pod: Pod) -> None:
    context = await pod.enroll()
    leaf = x509.load_pem_x509_certificates(context.certificate.read_bytes())[0]
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [str(pod.identity())]
    assert not (pod.directory / "state-enrollment-token").exists()


async def test_a_pod_of_the_gateway_opens_sessions(cluster: Cluster, tmp_path: Path) -> None:
    context = await Pod(cluster, tmp_path, account="control/keyreeve-gateway").enroll(service="gateway")
    await asyncio.to_thread(open_session, cluster.ca, context)


async def test_the_audit_log_names_account_and_pod(pod: Pod) -> None:
    await pod.enroll()
    auditor = pod.cluster.ca.client(AUDITOR).audit

    def mine() -> list[str]:
        records = [str(one.record) for one in auditor.list(method="ExchangeServiceAccountToken")]
        assert (pod.directory / "token").read_text() not in "".join(records)
        return [record for record in records if str(pod.identity()) in record]

    found = await asyncio.to_thread(wait_for, "a record of the exchange", mine)
    assert pod.account in found[-1]


async def test_a_token_is_worth_one_certificate(pod: Pod) -> None:
    await pod.enroll()
    with pytest.raises(errors.TokenUsed):
        await pod.enroll("thief")


async def test_another_key_of_a_pod_replaces_the_one_before_it_and_what_renewed_that(pod: Pod) -> None:
    first = await pod.enroll()
    replaced = {serial_of(first)}
    await asyncio.to_thread(renew, first)
    replaced.add(serial_of(first))
    pod.new_token()
    last = {serial_of(await pod.enroll("replacement"))}
    other = Pod(pod.cluster, pod.directory)
    await other.enroll("another pod of the account")

    def serials(state: CertificateState) -> set[str]:
        found = pod.cluster.ca.client(AUDITOR).certificates.list(identity=str(pod.identity()), state=state)
        return {one.serial for one in found}

    assert await asyncio.to_thread(serials, CertificateState.REVOKED) == replaced
    assert await asyncio.to_thread(serials, CertificateState.VALID) == last
    assert len(replaced) == 2


async def test_an_exchange_may_be_repeated_until_its_token_is_used(pod: Pod) -> None:
    for _ in range(2):
        lost = await aio.exchange_service_account_token(
            (pod.directory / "token").read_text(),
            address=address_of(pod.cluster.ca),
            roots=pod.bundle.read_bytes(),
            trust_domain=pod.cluster.ca.settings.trust_domain,
        )
        assert lost.identity == pod.identity()
    await pod.enroll()


@pytest.mark.parametrize(
    ("account", "path"), [("shop/web", "workloads/shop/web/{uid}"), ("shop/array.one", "members/array.one.shop")]
)
async def test_a_workload_is_named_after_its_account_and_pod_and_a_member_after_its_account(
    cluster: Cluster, tmp_path: Path, account: str, path: str
) -> None:
    pod = Pod(cluster, tmp_path, account=account)
    token = await aio.exchange_service_account_token(
        (pod.directory / "token").read_text(),
        address=address_of(cluster.ca),
        roots=pod.bundle.read_bytes(),
        trust_domain=cluster.ca.settings.trust_domain,
    )
    assert token.identity == cluster.ca.spiffe_id(path.format(uid=pod.uid))


def test_the_command_enrolls_a_pod(pod: Pod, capsys: pytest.CaptureFixture[str]) -> None:
    listener, trust_domain = address_of(pod.cluster.ca), pod.cluster.ca.settings.trust_domain
    files = ("--account-token", pod.directory / "token", "--bundle", pod.bundle, "--dir", pod.directory / "by-command")
    done = runner(capsys)("enroll", "--kubernetes", listener, "--trust-domain", trust_domain, *files)
    assert done.code == 0, done.err
    assert str(pod.identity()) in done.out


async def test_a_token_of_another_account_becomes_no_service(cluster: Cluster, tmp_path: Path) -> None:
    pod = Pod(cluster, tmp_path, account="default/keyreeve-membership")
    with pytest.raises(errors.ServiceAccountRefused):
        await pod.enroll()


async def test_an_account_becomes_its_own_service_alone(pod: Pod) -> None:
    with pytest.raises(errors.TokenNotAllowed):
        await pod.enroll(service="credentials")


async def test_a_token_for_another_audience_is_refused(pod: Pod) -> None:
    pod.new_token(audience="https://kubernetes.default.svc")
    with pytest.raises(errors.ServiceAccountRefused):
        await pod.enroll()


async def test_a_made_up_token_is_refused(pod: Pod) -> None:
    (pod.directory / "token").write_text("header.made-up.signature")
    with pytest.raises(errors.ServiceAccountRefused):
        await pod.enroll()


async def test_an_api_server_that_fails_is_told_and_tried_again(pod: Pod) -> None:
    pod.cluster.api.answers = 503
    try:
        with pytest.raises(errors.StoreUnavailable):
            await pod.enroll()
    finally:
        pod.cluster.api.answers = 201
    await pod.enroll()


async def test_a_token_is_sent_to_no_server_outside_the_bundle(pod: Pod) -> None:
    pod.bundle.write_bytes(pod.cluster.api.ca_file.read_bytes())
    with pytest.raises(errors.ServiceUnreachable):
        await pod.enroll()
