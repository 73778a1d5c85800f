"""Authorities and profiles through the command line, on the real service."""

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from support.control_plane import ControlPlane


@pytest.mark.faults
def test_an_authority_is_made_activated_used_and_retired(own_control_plane: ControlPlane, tmp_path: Path) -> None:
    own_control_plane.up()
    made = own_control_plane.run(
        *("authority", "create", "estate-issuing-2", "--hierarchy", "estate", "--issuer", "estate-root-1"),
        *("--common-name", "Second estate CA", "--key-type", "p384", "--lifetime", "365d", "-o", "json"),
    )
    assert made.code == 0, made.err
    assert made.document["state"] == "pending"
    assert own_control_plane.run("authority", "activate", "estate-issuing-2", "-q").out == "active\n"
    issued = own_control_plane.run("cert", "issue", "web.example.test", "--out", tmp_path / "web", "-o", "json")
    assert issued.document["authority"] == "authorities/estate-issuing-2"
    listed = own_control_plane.run("cert", "list", "--authority", "estate-issuing-2", "-q").out.split()
    assert listed == [issued.document["serial"]]
    assert own_control_plane.run("authority", "retire", "estate-issuing-2", "-q").out == "retiring\n"
    assert "estate-issuing-2" in own_control_plane.run("authority", "list", "-q").out.split()
    refused = own_control_plane.run("authority", "retire", "estate-issuing-1", "-o", "json")
    assert refused.code == 1
    assert json.loads(refused.err)["error"]["reason"] == "AUTHORITY_IN_USE"
    revoked = own_control_plane.run(
        "authority", "revoke", "estate-issuing-2", "--reason", "ca_compromise", "-o", "json"
    )
    assert revoked.document["state"] == "revoked", revoked.err
    assert revoked.document["revoked_at"]


def test_an_exported_chain_ends_in_the_root_of_the_bundle(control_plane: ControlPlane, tmp_path: Path) -> None:
    assert control_plane.run("authority", "export", "estate-issuing-1", "--out", tmp_path / "chain.pem").code == 0
    issuing, root = (tmp_path / "chain.pem").read_text().split("-----END CERTIFICATE-----\n")[:2]
    assert control_plane.context.estate_bundle.read_text().startswith(root)
    (tmp_path / "issuing.pem").write_text(issuing + "-----END CERTIFICATE-----\n")
    subprocess.run(
        ["openssl", "verify", "-x509_strict", "-CAfile", control_plane.context.estate_bundle, tmp_path / "issuing.pem"],
        check=True,
    )


def test_a_profile_is_shown_simulated_applied_and_obeyed(control_plane: ControlPlane, tmp_path: Path) -> None:
    shown = control_plane.run("profile", "show", "server")
    document = yaml.safe_load(shown.out)
    document["description"] = "Short-lived servers."
    document["lifetime"] = {"default": "1d", "maximum": "2d"}
    (tmp_path / "short.yaml").write_text(yaml.safe_dump(document))
    assert control_plane.run("cert", "issue", "web.example.test", "--out", tmp_path / "web").code == 0
    simulated = control_plane.run("profile", "simulate", "server", tmp_path / "short.yaml", "-o", "json").document
    assert simulated["examined"] >= 1
    assert simulated["different"] + simulated["refused"] >= 1
    created = control_plane.run("profile", "apply", "short-server", tmp_path / "short.yaml", "-o", "json").document
    assert (created["outcome"], created["version"]) == ("created", 1)
    again = control_plane.run("profile", "apply", "short-server", tmp_path / "short.yaml", "-o", "json").document
    assert (again["outcome"], again["version"]) == ("unchanged", 1)
    refused = control_plane.run(
        "cert", "issue", "a.example.test", "--out", tmp_path / "a", "--profile", "short-server", "--lifetime", "30d"
    )
    assert refused.code == 1
    assert "LIFETIME_REFUSED" in refused.err


def test_a_document_that_is_no_profile_is_refused_key_by_key(control_plane: ControlPlane, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("description: x\ntree: estate\nlifetme: {default: 1d}\n")
    done = control_plane.run("profile", "apply", "bad", tmp_path / "bad.yaml")
    assert done.code == 1
    assert "PROFILE_INVALID" in done.err
    assert "lifetme" in done.err
