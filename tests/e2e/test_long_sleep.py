"""A control plane that is started again long after it was stopped (libfaketime)."""

import hashlib

import pytest

from keyreeve.cli.local.local_operator import login_name, operator_name
from keyreeve.keys import load_certificates
from support.control_plane import ControlPlane
from support.faketime import later
from support.programs import FAKETIME, needs

pytestmark = [pytest.mark.faults, needs(FAKETIME, "openssl")]


def roots(control_plane: ControlPlane) -> list[str]:
    bundles = (control_plane.state_directory.bundle, control_plane.state_directory.estate_bundle)
    return [hashlib.sha256(der).hexdigest() for bundle in bundles for der in load_certificates(bundle)]


def test_after_a_month_and_after_three_years_up_recovers_by_itself_and_says_so(
    own_services: ControlPlane,
) -> None:
    own_services.up()
    before = roots(own_services)
    own_services.down()

    month = later(31)
    woken = own_services.up(**month).out
    assert "recovered over the CA's local socket" in woken
    assert "30 d" in woken
    assert roots(own_services) == before
    assert own_services.run("cert", "issue", "web.example.test", "--out", "web", extra=month).code == 0
    assert own_services.run("doctor", extra=month).code == 0
    assert "recovered" not in own_services.up(**month).out, "nothing has expired now"
    own_services.down()

    years = later(3 * 366)
    woken = own_services.up(**years).out
    assert "control-issuing-2 was created under control-root-1, since control-issuing-1 had expired" in woken
    assert "estate-issuing-2 was created under estate-root-1" in woken
    assert roots(own_services) == before
    issued = own_services.run("cert", "issue", "web.example.test", "--out", "again", extra=years)
    assert issued.code == 0, issued.err
    checked = own_services.run("cert", "verify", "again/certificate.pem", "--for", "web.example.test", extra=years)
    assert checked.code == 0, checked.err
    own_services.run("down", extra=years)


def test_recover_says_what_it_did_and_needs_a_ca_that_runs(own_control_plane: ControlPlane) -> None:
    own_control_plane.up()
    done = own_control_plane.run("recover", "-o", "json")
    assert done.code == 0, done.err
    assert done.document == {"replacements": [], "dead_hierarchies": []}

    token = own_control_plane.run("recover", "operator", "dora", "-q")
    assert token.code == 0, token.err
    accepted = own_control_plane.run("operator", "accept", "--dir", "dora", given=token.out.encode())
    assert accepted.code == 0, accepted.err
    dora = own_control_plane.run("whoami", "--context", "dora/context.json", "-o", "json")
    assert dora.code == 0, dora.err
    assert dora.document["identity"] == "spiffe://dev.localhost/operators/admin/dora"
    assert dora.document["certificate"] == "valid"
    invited = own_control_plane.run(
        "operator", "invite", "carl", "--role", "auditor", "--context", "dora/context.json", "-q"
    )
    assert invited.code == 0, invited.err
    assert own_control_plane.run("operator", "list", "-q").out.split() == ["carl", "dora", operator_name(login_name())]
    assert own_control_plane.run("operator", "remove", "dora").code == 0
    assert own_control_plane.run("whoami", "--context", "dora/context.json").code == 4
    own_control_plane.down()
    assert own_control_plane.run("recover").code == 3
