"""Enrollment tokens for the other services, created over the CA's local socket."""

import json
from pathlib import Path

import pytest
from cryptography import x509

from keyreeve import Client, errors
from keyreeve.enrollment import enroll
from keyreeve.enrollment_token import EnrollmentToken
from keyreeve_ca import local_admin
from keyreeve_ca.__main__ import main
from support.enrolling import address_of, enrolling_ca
from support.running_ca import AUDITOR, RunningCa, unique
from support.waiting import wait_for

__all__ = ["enrolling_ca"]


@pytest.mark.parametrize("service", ["membership", "credentials", "gateway"])
def test_a_token_enrolls_the_instance_it_was_created_for(enrolling_ca: RunningCa, tmp_path: Path, service: str) -> None:
    instance, socket = unique("x"), enrolling_ca.settings.coordinator_socket
    made = enrolling_ca.run(local_admin.service_token(socket, service, instance, address_of(enrolling_ca)))
    identity = enrolling_ca.identity(f"services/{service}/{instance}")
    assert made["identity"] == identity
    context = enroll(made["token"], tmp_path / "identity")
    leaf = x509.load_pem_x509_certificates(context.certificate.read_bytes())[0]
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [identity]
    assert names.get_values_for_type(x509.DNSName) == [f"{service}.svc.example.test"]
    serial = f"{leaf.serial_number:032x}"
    assert enrolling_ca.client(AUDITOR).certificates.get(serial).identity == identity
    with Client(context) as client:
        if service == "gateway":  # it is known, and may open sessions only
            with pytest.raises(errors.AccessDenied):
                client.certificates.get(serial)
        else:
            assert client.certificates.get(serial).identity == identity

    def targets() -> dict[str, str] | None:
        for logged in enrolling_ca.client(AUDITOR).audit.list():
            told = dict((*logged.record.targets, *logged.record.results))
            if logged.record.method == "keyreeve/local-socket/service_token" and told.get("identity") == identity:
                return told
        return None

    assert wait_for("the audit record", targets)["token"].startswith("enrollmentTokens/")


@pytest.mark.parametrize(
    ("service", "instance", "reason"),
    [
        ("ca", "two", errors.TokenNotAllowed),
        ("unknown", "one", errors.NameRefused),
        ("membership/one", "two", errors.NameRefused),
        ("membership", "Upper", errors.NameRefused),
        ("membership", "", errors.NameRefused),
        ("../operators/admin", "eve", errors.NameRefused),
    ],
)
def test_no_other_identity_gets_a_token_this_way(
    enrolling_ca: RunningCa, service: str, instance: str, reason: type[errors.KeyreeveError]
) -> None:
    socket = enrolling_ca.settings.coordinator_socket
    with pytest.raises(reason):
        enrolling_ca.run(local_admin.service_token(socket, service, instance, address_of(enrolling_ca)))


def test_the_command_prints_the_token_as_json(
    enrolling_ca: RunningCa, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KEYREEVE_CA_STATE_DIRECTORY", str(enrolling_ca.settings.state_directory))
    monkeypatch.setenv("KEYREEVE_CA_TRUST_DOMAIN", enrolling_ca.settings.trust_domain)
    monkeypatch.setattr("os.umask", lambda _mask: 0)
    instance = unique("x")
    wanted = ["service-token", "--service", "membership", "--instance", instance]
    assert main([*wanted, "--address", address_of(enrolling_ca)]) == 0
    made = json.loads(capsys.readouterr().out)
    assert EnrollmentToken.parse(made["token"]).identity == enrolling_ca.spiffe_id(f"services/membership/{instance}")
    assert main(["service-token", "--service", "ca", "--instance", instance]) == 1
    assert "TOKEN_NOT_ALLOWED" in capsys.readouterr().err
