"""The files of a context, read consistently."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from keyreeve import Context, channel_credentials
from keyreeve.errors import ContextInvalid
from support.peer_certificates import TRUST_DOMAIN, Leaf, TestCa

ROOT = TestCa.root("root")
ANN = ROOT.issuing("issuing").person("operators/admin/ann")


def context_in(directory: Path, leaf: Leaf = ANN, addresses: Sequence[str] = ("127.0.0.1:1",)) -> Context:
    context = Context(
        trust_domain=TRUST_DOMAIN,
        endpoints={"ca": addresses},
        bundle=directory / "control.pem",
        estate_bundle=directory / "estate.pem",
        certificate=directory / "me.pem",
        key=directory / "me.key",
    )
    context.bundle.write_bytes(ROOT.pem)
    context.certificate.write_bytes(leaf.chain_pem)
    context.key.write_bytes(leaf.key_pem)
    return context


def test_a_pair_and_its_bundle_are_read(tmp_path: Path) -> None:
    files = channel_credentials.read(context_in(tmp_path))
    assert (files.bundle, files.certificate, files.key) == (ROOT.pem, ANN.chain_pem, ANN.key_pem)
    assert "PRIVATE" not in repr(files)


def test_the_signature_changes_when_a_file_is_replaced(tmp_path: Path) -> None:
    context = context_in(tmp_path)
    before = channel_credentials.signature_of(context)
    (tmp_path / "new").write_bytes(ROOT.pem)
    (tmp_path / "new").replace(context.bundle)
    assert channel_credentials.signature_of(context) != before
    context.key.unlink()
    assert channel_credentials.signature_of(context) is None


def test_a_certificate_for_another_key_is_refused(tmp_path: Path) -> None:
    context = context_in(tmp_path)
    context.key.write_bytes(ROOT.person("operators/admin/bob").key_pem)
    with pytest.raises(ContextInvalid, match="is not for the key"):
        channel_credentials.read(context)


@pytest.mark.parametrize("name", ["control.pem", "me.pem", "me.key"])
@pytest.mark.parametrize("content", [b"", b"junk", b"-----BEGIN CERTIFICATE-----\nMIIB", bytes(2 << 20)])
def test_a_file_that_holds_something_else_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    context = context_in(tmp_path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ContextInvalid, match=name.replace(".", r"\.")):
        channel_credentials.read(context)


@pytest.mark.parametrize("name", ["control.pem", "me.pem", "me.key"])
def test_a_file_that_cannot_be_read_is_named_with_the_reason(tmp_path: Path, name: str) -> None:
    context = context_in(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(ContextInvalid, match=rf"{name}: No such file"):
        channel_credentials.read(context)
    (tmp_path / name).mkdir()
    with pytest.raises(ContextInvalid, match=rf"{name}: Is a directory"):
        channel_credentials.read(context)


def test_the_channel_pins_the_services_role(tmp_path: Path) -> None:
    options = dict(channel_credentials.channel_options(context_in(tmp_path), "ca"))
    assert options["grpc.ssl_target_name_override"] == "ca.svc.example.test"
    assert options["grpc.default_authority"] == "ca.svc.example.test"


def test_the_channel_asks_the_name_service_again_soon(tmp_path: Path) -> None:
    options = dict(channel_credentials.channel_options(context_in(tmp_path, addresses=["ca.test:1"]), "ca"))
    assert options["grpc.dns_min_time_between_resolutions_ms"] == 1_000


@pytest.mark.parametrize(
    ("addresses", "proxied"),
    [
        (["127.0.0.1:1"], False),
        (["[::1]:1"], False),
        (["localhost:1"], False),
        (["ca.test:1"], True),
        (["192.0.2.1:1"], True),
        (["ca.test:1", "192.0.2.1:1"], False),
    ],
)
def test_a_proxy_of_the_environment_is_used_for_one_remote_address_only(
    tmp_path: Path, addresses: list[str], proxied: bool
) -> None:
    options = dict(channel_credentials.channel_options(context_in(tmp_path, addresses=addresses), "ca"))
    assert ("grpc.enable_http_proxy" not in options) is proxied
