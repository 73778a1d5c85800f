"""The settings of the legacy commands, and which server a command is for."""

from pathlib import Path

import pytest

from keyreeve.context import Context
from keyreeve.errors import ContextInvalid
from keyreeve_gateway.settings import LegacySettings, load_settings
from keyreeve_gateway.ways.own_context import local_server
from support.peer_certificates import TRUST_DOMAIN, Hierarchies


def test_without_a_file_the_defaults_hold(tmp_path: Path) -> None:
    assert load_settings(tmp_path, {}) == LegacySettings()
    assert load_settings(None, {}) == LegacySettings()


def test_the_file_beside_the_context_is_read(tmp_path: Path) -> None:
    (tmp_path / "legacy.toml").write_text('server = "newyork.example.com"\nusage_code = 64\n')
    assert load_settings(tmp_path, {}) == LegacySettings(server="newyork.example.com", usage_code=64)


def test_the_environment_names_another_file_and_goes_before_it(tmp_path: Path) -> None:
    file = tmp_path / "other.toml"
    file.write_text('server = "newyork.example.com"\narray = "sales"\n')
    environment = {"KEYREEVE_LEGACY_SETTINGS": str(file), "KEYREEVE_SERVER": "boston.example.com"}
    found = load_settings(tmp_path, environment)
    assert (found.server, found.array) == ("boston.example.com", "sales")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("colors = 1\n", "unknown key"),
        ('failed_code = "one"\n', "wrong type"),
        ("failed_code = true\n", "wrong type"),
        ("server = \n", "not TOML"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "legacy.toml").write_text(text)
    with pytest.raises(ContextInvalid, match=why):
        load_settings(tmp_path, {})


def test_a_named_file_has_to_exist(tmp_path: Path) -> None:
    with pytest.raises(ContextInvalid, match="there is no file"):
        load_settings(None, {"KEYREEVE_LEGACY_SETTINGS": str(tmp_path / "none.toml")})


@pytest.mark.parametrize(
    ("path", "server"),
    [("members/boston.example.com", "boston.example.com"), ("operators/admin/ann", "host.example.com")],
)
def test_this_server_is_the_member_whose_certificate_is_used(tmp_path: Path, path: str, server: str) -> None:
    leaf = Hierarchies.make().control.person(path)
    certificate = tmp_path / "me.pem"
    certificate.write_bytes(leaf.chain_pem)
    context = Context(TRUST_DOMAIN, {"ca": "127.0.0.1:1"}, certificate, certificate, certificate, certificate)
    assert local_server(context, "host.example.com") == server
