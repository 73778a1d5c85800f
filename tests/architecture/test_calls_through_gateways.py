"""What may be called through a gateway is what the legacy commands call, and no more."""

import importlib
import pkgutil
import re
from pathlib import Path

import keyreeve_ca
import keyreeve_chassis
import keyreeve_credentials
import keyreeve_membership
from keyreeve.identity import OPERATOR_ROLES, Role
from keyreeve_chassis.guard.access import AccessRule, AccessRules

VERBS = Path(__file__).parents[2] / "docs" / "verbs.md"
OF_SESSIONS = {
    "OperatorSessionService/RenewSession",
    "OperatorSessionService/CloseSession",
    "OperatorSessionService/ListSessions",
    "AuditService/AppendVerbRecord",
}
OF_SFTP = {"KeyFileService/RenameFile"}
"""Beside what the commands call."""
BY_ITSELF = {
    "OperatorSessionService/OpenSession",
    "HostKeyService/GetHostKey",
    "HostKeyService/SignExchangeHash",
    "TrustService/WatchCallers",
    "AuthorityService/GetBundle",
    "AuthorityService/WatchBundle",
    "CertificateService/RenewCertificate",
    "AuditService/GetCheckpoint",
}


def rules() -> AccessRules:
    """The access rules of all services, by `Service/Method`."""
    found: dict[str, AccessRule] = {}
    for package in (keyreeve_ca, keyreeve_chassis, keyreeve_credentials, keyreeve_membership):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if module.name.endswith("servicer"):
                found |= getattr(importlib.import_module(module.name), "ACCESS", {})
    return {name.rpartition(".")[2]: rule for name, rule in found.items()}


def test_methods_that_legacy_commands_call_can_be_called_through_a_gateway_and_no_others() -> None:
    called = set(
        re.findall(r"`(\w+Service/\w+)`", "".join(re.findall(r"^Calls: .*$", VERBS.read_text(), re.MULTILINE)))
    )
    assert called, "the form of docs/verbs.md has changed"
    through = {name for name, rule in rules().items() if rule.on_behalf}
    assert through == called | OF_SESSIONS | OF_SFTP


def test_through_a_gateway_each_operator_may_do_what_they_may_do_themselves() -> None:
    for name, rule in rules().items():
        if rule.on_behalf:
            assert rule.on_behalf == (rule.roles & OPERATOR_ROLES or OPERATOR_ROLES), name


def test_a_gateway_by_itself_keeps_itself_running_and_opens_sessions() -> None:
    assert {name for name, rule in rules().items() if Role.GATEWAY in rule.roles} == BY_ITSELF
