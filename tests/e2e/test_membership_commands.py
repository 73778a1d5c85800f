"""The commands of arrays and members against a real control plane, and an operator who is removed."""

from dataclasses import replace

import pytest
from cryptography import x509

from keyreeve import Client, Context
from keyreeve.errors import KeyreeveError
from support.control_plane import ControlPlane
from support.waiting import wait_for


def outcome(context: Context) -> str:
    """How a list of arrays ends: `OK`, or the reason of its refusal."""
    with Client(context, timeout=10) as client:
        try:
            list(client.membership.arrays.list())
        except KeyreeveError as refused:
            return refused.reason
    return "OK"


@pytest.mark.slow
def test_arrays_are_made_shown_and_refused_by_command(all_services: ControlPlane) -> None:
    run = all_services.run
    made = run(
        "array", "create", "web-1.example.com", "--address", "10.0.0.1:5427", "--release", "5.40.908", "--id", "web"
    )
    assert made.code == 0, made.err
    assert run("array", "create", "web-1.example.com", "--address", "10.0.0.1:5427", "--release", "5.40.908").code == 1
    shown = run("array", "show", "web", "-o", "json").document
    assert (shown["primary"], shown["members"], shown["epoch"]) == ("web-1.example.com", 1, 1)
    listed = run("member", "list", "-o", "json").document
    assert ("web-1.example.com", "standalone") in [(one["name"], one["state"]) for one in listed]
    exported = x509.load_pem_x509_certificate(run("bundle", "export", "web").out.encode())
    assert exported.subject == exported.issuer
    assert run("bundle", "epochs", "web", "-q").out.split() == ["1"]

    other = ("--address", "10.0.0.2:5427", "--release", "5.40.908", "--id", "db")
    assert run("array", "create", "db-1.example.com", *other).code == 0
    wrong = run("array", "join", "web-1.example.com", "db-1.example.com", "--accept", "00" * 32, "-o", "json")
    assert (wrong.code, "FINGERPRINT_MISMATCH" in wrong.err) == (1, True)
    silent = run("array", "join", "web-1.example.com", "db-1.example.com", "--accept", shown["fingerprint"])
    assert (silent.code, "UNREACHABLE" in silent.err) == (1, True)
    assert run("array", "detach", "web-1.example.com").code == 1
    settings = run("array", "settings", "web-1.example.com", "--set", "report-interval=7", "-o", "json").document
    assert {one["name"]: one["value"] for one in settings}["report-interval"] == "7"
    unwatched = run("rotation", "start", "web", "--kind", "algorithm_change", "--key-type", "p384", "--no-watch")
    assert (unwatched.code, "UNREACHABLE" in unwatched.err) == (1, True)
    assert run("rotation", "list", "--array", "web", "-q").out == ""
    status = run("array", "status", "web")
    assert (status.code, "never reported" in status.out) == (0, True)
    assert run("array", "status", "web", "-o", "json").document["member_reports"][0]["reported_at"] is None

    emergency = run("rotation", "start", "web", "--kind", "emergency", "--no-watch", "-q").out.strip()
    assert run("rotation", "rollback", emergency).code == 0
    shown_rotation = run("rotation", "show", emergency)
    assert "↩ rolled back" in shown_rotation.out or "● prepared" in shown_rotation.out
    assert run("rotation", "show", emergency, "-o", "json").document["name"] == emergency
    watched = run("rotation", "watch", emergency, "-o", "json").document
    assert (watched["phase"], watched["ended_at"] is not None) == ("rolled_back", True)
    assert run("array", "show", "web", "-o", "json").document["change"] == ""
    refused = run("explain", "CHANGE_IN_PROGRESS").out
    assert "keyreeve operation list --service membership" in refused
    verified = run("audit", "verify", "--service", "membership")
    assert verified.code == 0, verified.err


@pytest.mark.slow
def test_an_operator_who_is_removed_is_refused_by_membership(all_services: ControlPlane) -> None:
    token = all_services.run("operator", "invite", "carl", "--role", "admin", "-q")
    assert token.code == 0, token.err
    accepted = all_services.run("operator", "accept", "--dir", "carl", given=token.out.encode())
    assert accepted.code == 0, accepted.err
    carl = Context.load(all_services.directory / "carl" / "context.json")
    carl = replace(carl, endpoints=all_services.context.endpoints)
    wait_for("a known operator", lambda: outcome(carl) == "OK", 5)
    assert all_services.run("operator", "remove", "carl").code == 0
    refusals = {"PEER_OPERATOR_UNKNOWN", "PEER_CERTIFICATE_REVOKED"}
    wait_for("a refusal", lambda: outcome(carl) in refusals, 5)
