"""The check that fails a release of the chart: against a real CA, as the account of its pod, and what makes it fail."""

import ssl
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from keyreeve._blocking.certificates import CertificateClient
from keyreeve.cli.installation import certificate_check
from keyreeve.errors import StoreUnavailable
from keyreeve.keys import make_csr, make_key, save_certificate, save_key
from keyreeve.values import CertificateState, Name
from keyreeve_ca.settings import KubernetesSettings
from support.enrolling import OPEN_TO_TESTS, address_of
from support.running_ca import ADMIN, AUDITOR, RunningCa, running
from support.token_reviews import ApiServer, api_server, status_of

ACCOUNT = "control/keyreeve-check"


@dataclass
class Release:
    ca: RunningCa
    api: ApiServer
    directory: Path

    def check(self, account: str = ACCOUNT) -> int:
        """Run the check as a new pod of an account; its exit code."""
        token, directory = str(uuid.uuid4()), self.directory / uuid.uuid4().hex
        directory.mkdir()
        audience = f"keyreeve:{self.ca.settings.trust_domain}"
        self.api.statuses[token] = status_of(account, audience, str(uuid.uuid4()), str(uuid.uuid4()))
        (directory / "token").write_text(token)
        (directory / "bundle.pem").write_bytes(self.ca.context(ADMIN).bundle.read_bytes())
        options = {
            "enroll": address_of(self.ca),
            "trust-domain": self.ca.settings.trust_domain,
            "account-token": directory / "token",
            "bundle": directory / "bundle.pem",
        }
        return certificate_check.main([f"--{name}={value}" for name, value in options.items()])

    def certificates(self, state: CertificateState) -> int:
        found = self.ca.client(AUDITOR).certificates.list(profile="server", state=state)
        return len(list(found))


@pytest.fixture(scope="module")
def release(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Release]:
    directory = tmp_path_factory.mktemp("release")
    with api_server(directory) as api:
        kubernetes = KubernetesSettings(
            accounts={ACCOUNT: "workload", "control/keyreeve-member": "member"},
            api_url=api.url,
            api_ca_file=api.ca_file,
            api_token_file=api.token_file,
        )
        enroll = OPEN_TO_TESTS.model_copy(update={"kubernetes": kubernetes})
        with running("sqlite", request, enroll=enroll) as ca:
            yield Release(ca, api, directory)


def test_it_issues_verifies_and_revokes_a_certificate(release: Release, capsys: pytest.CaptureFixture[str]) -> None:
    revoked, valid = (release.certificates(state) for state in (CertificateState.REVOKED, CertificateState.VALID))
    assert release.check() == 0
    assert "verified it with OpenSSL" in capsys.readouterr().out
    assert release.certificates(CertificateState.REVOKED) == revoked + 1
    assert release.certificates(CertificateState.VALID) == valid


def test_it_fails_when_nothing_is_issued(release: Release, capsys: pytest.CaptureFixture[str]) -> None:
    issuance = release.ca.client(ADMIN).issuance
    issuance.halt("for the test")
    try:
        assert release.check() == 1
    finally:
        issuance.resume("it is over")
    assert "halted" in capsys.readouterr().err


@pytest.mark.parametrize("account", ["control/keyreeve-gateway", "control/keyreeve-member"])
def test_it_fails_as_an_account_that_may_not_enroll_or_not_issue(release: Release, account: str) -> None:
    assert release.check(account) == 1


def test_it_fails_when_the_certificate_cannot_be_revoked(release: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise StoreUnavailable("no revocation today")

    monkeypatch.setattr(CertificateClient, "revoke", refuse)
    assert release.check() == 1


def test_openssl_verifies_the_chain_the_root_and_the_name(release: Release, tmp_path: Path) -> None:
    client, key = release.ca.client(ADMIN), make_key()
    issued = client.certificates.sign("server", make_csr(key, [Name.dns("one.example.test")]))
    save_certificate(tmp_path / "chain.pem", issued)
    save_key(tmp_path / "server.pem", key)
    with (tmp_path / "server.pem").open("ab") as pem:
        pem.write((tmp_path / "chain.pem").read_bytes())
    context = release.ca.context(ADMIN)
    certificate_check.verify_with_openssl(tmp_path / "server.pem", context.estate_bundle, "one.example.test")
    for roots, name in ((context.estate_bundle, "two.example.test"), (context.bundle, "one.example.test")):
        with pytest.raises(ssl.SSLCertVerificationError):
            certificate_check.verify_with_openssl(tmp_path / "server.pem", roots, name)
