"""The SSH host key of the gateways: signed in the vault, checked with the real ssh-keygen and by another implementation."""

import base64
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_ssh_public_key

from keyreeve import errors
from keyreeve.credentials.v1 import host_key_service_pb2 as pb
from keyreeve.identity import Caller, Role, SpiffeId
from keyreeve.length_prefix import split_fields
from keyreeve_chassis.guard.call import Call
from keyreeve_credentials.app import signature_limits
from keyreeve_credentials.host_keys.host_key import SshHostKey
from keyreeve_credentials.host_keys.servicer import HostKeyServicer
from keyreeve_credentials.settings import CredentialsSettings
from support.service_in_process import InProcess
from support.vault import running_vault

GATEWAY, OTHER_GATEWAY = (
    Caller(SpiffeId.parse(f"spiffe://example.test/services/gateway/{name}"), Role.GATEWAY, 1) for name in ("one", "two")
)


def fingerprint_by_ssh_keygen(directory: Path, line: str) -> str:
    (directory / "host.pub").write_text(line)
    command = ["ssh-keygen", "-l", "-f", str(directory / "host.pub")]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[1]


async def test_gateways_get_signatures_of_a_host_key_that_stays_the_same(
    settings: CredentialsSettings, tmp_path: Path
) -> None:
    found = []
    for _ in range(2):  # another process with the same key-encryption key
        async with running_vault(settings, tmp_path) as vault:
            keys = (await vault.client(Role.GATEWAY)).credentials.host_keys
            found.append(await keys.get())
            signature = await keys.sign(b"h" * 32)
    assert found[0] == found[1]
    line = f"{found[0].algorithm} {base64.b64encode(found[0].public_key).decode()}"
    assert fingerprint_by_ssh_keygen(tmp_path, line) == found[0].fingerprint
    name, raw = split_fields(signature)
    assert name == b"ssh-ed25519"
    load_ssh_public_key(line.encode()).verify(raw, b"h" * 32)  # type: ignore[union-attr,call-arg]


async def test_nobody_else_gets_a_signature_and_no_gateway_one_while_the_vault_is_sealed(
    vault_on_sqlite: InProcess,
) -> None:
    vault = vault_on_sqlite
    for role in (Role.ADMIN, Role.OPERATOR, Role.MEMBER, Role.MEMBERSHIP):
        with pytest.raises(errors.AccessDenied):
            await (await vault.client(role)).credentials.host_keys.sign(b"h" * 32)
    keys = (await vault.client(Role.GATEWAY)).credentials.host_keys
    for other in (b"", b"h" * 31, b"h" * 65):
        with pytest.raises(errors.FieldInvalid):
            await keys.sign(other)
    admin = (await vault.client(Role.ADMIN)).credentials
    await admin.keys.seal("a test")
    with pytest.raises(errors.VaultSealed):
        await keys.get()


async def test_a_gateway_gets_500_signatures_at_once_and_100_more_each_second() -> None:
    now = [0.0]
    limits = signature_limits(lambda: now[0])
    servicer = HostKeyServicer(SshHostKey(lambda _: bytes(32)), lambda: None, limits)
    request, call = pb.SignExchangeHashRequest(exchange_hash=bytes(32)), Call("/x", GATEWAY)
    for _ in range(500):
        await servicer.SignExchangeHash(request, call)
    with pytest.raises(errors.ReadRateExceeded):
        await servicer.SignExchangeHash(request, call)
    await servicer.SignExchangeHash(request, Call("/x", OTHER_GATEWAY))
    now[0] += 1.0
    for _ in range(100):
        await servicer.SignExchangeHash(request, call)
    with pytest.raises(errors.ReadRateExceeded):
        await servicer.SignExchangeHash(request, call)
