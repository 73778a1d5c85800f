"""What runbooks of the legacy products do, by real `tarantella` and `mmp` processes against `keyreeve up`."""

import json
import re
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from keyreeve.audit.record import Record
from keyreeve.audit.values import LoggedRecord
from keyreeve.cli.tour.local_agents import LocalAgent, free_address
from keyreeve.membership_values import Server
from support.control_plane import ControlPlane
from support.legacy_processes import LegacyShell
from support.waiting import wait_for

ACCEPT = "Do you want to accept this certificate? (yes/no) "
CREATED = "Created key file {0}.key and CSR {0}.csr\nCSR file {0}.csr ready for download via SFTP\n"


@pytest.fixture
def shell(all_services: ControlPlane) -> LegacyShell:
    return LegacyShell(all_services.state_directory.context)


@pytest.fixture
def alone(all_services: ControlPlane, shell: LegacyShell) -> LegacyShell:
    """On a server that stands alone in the roll."""
    name = f"core-{uuid.uuid4().hex[:8]}.example.test"
    with all_services.client() as client:
        client.membership.arrays.create(Server(name, "127.0.0.1:5427", "5.40"))
    return shell.on(name)


@pytest.fixture
def servers(all_services: ControlPlane, tmp_path: Path) -> Iterator[list[LocalAgent]]:
    """Three servers with agents."""
    run, made = uuid.uuid4().hex[:8], []
    with all_services.client() as client:
        for n in (1, 2, 3):
            agent = LocalAgent(f"sgd-{n}-{run}.example.test", free_address(f"127.0.0.{20 + n}"), tmp_path / f"{n}")
            agent.configure({"membership": all_services.context.addresses("membership")})
            settings = agent.directory / "agent.yaml"
            hook = {"sessions": ["cat", str(agent.directory / "sessions")]}
            settings.write_text(json.dumps(json.loads(settings.read_text()) | hook))
            say_stopped(agent, stopped=False)
            agent.enroll(
                client.tokens.create(f"spiffe://{all_services.context.trust_domain}/members/{agent.name}").text
            )
            made.append(agent)
    try:
        for agent in made:
            agent.start()
        for agent in made:
            agent.wait_for("it stands alone", lambda status: bool(status.get("array")))
        yield made
    finally:
        for agent in made:
            agent.stop()


def say_stopped(agent: LocalAgent, *, stopped: bool) -> None:
    """What the site's hook says of the programs of a server."""
    (agent.directory / "sessions").write_text("stopped" if stopped else "0 0")


def set_peer_security(servers: list[LocalAgent], shells: list[LegacyShell], value: str) -> None:
    """Stop all servers, change the setting on each, and start them again."""
    for stopped in (True, False):
        for agent in servers:
            agent.stop()
            say_stopped(agent, stopped=stopped)
            agent.start()  # its first report tells what is so
        for shell in shells if stopped else ():
            command = ("config", "edit", "--tarantella-config-security-peerssl-enabled", value)
            wait_for(f"{shell.server} is stopped", lambda: shell.run("tarantella", *command).returncode == 0)  # noqa: B023


def fingerprint(text: str) -> str:
    found = re.search(r"SHA-256 Fingerprint: ([0-9A-F:]{95})", text)
    assert found is not None, text
    return found[1]


@pytest.mark.faults
@pytest.mark.timeout(300)
def test_an_array_of_three_is_secured_and_another_server_becomes_its_primary(
    shell: LegacyShell, servers: list[LocalAgent]
) -> None:
    one, two, three = (shell.on(agent.name) for agent in servers)
    # An array of three without secure connections between its servers.
    set_peer_security(servers, [one, two, three], "0")
    for each in (two, three):
        one.out("tarantella", "array", "join", "--secondary", each.server)
        assert f"{each.server} (secondary)" in one.out("tarantella", "array", "list")
    refused = one.run("tarantella", "config", "edit", "--tarantella-config-security-peerssl-enabled", "1")
    assert (refused.returncode, "NOT_STANDALONE" in refused.stderr) == (1, True)
    # It is dissolved, and each server has a secure connection enabled while it is stopped.
    for each in (two, three):
        one.out("tarantella", "array", "detach", "--secondary", each.server)
        assert each.server not in one.out("tarantella", "status")
    assert one.out("tarantella", "array", "list") == f"{one.server} (primary)\n"
    refused = one.run("tarantella", "config", "edit", "--tarantella-config-security-peerssl-enabled", "1")
    assert (refused.returncode, "SERVER_RUNNING" in refused.stderr) == (1, True)
    set_peer_security(servers, [one, two, three], "1")
    # It is built again, one server at a time.
    accepted = fingerprint(one.out("tarantella", "security", "peerca", "--show"))
    for each in (two, three):
        command = ("array", "join", "--primary", one.server)
        code, seen = each.at_terminal("tarantella", *command, prompt=ACCEPT, answer="no")
        assert (code, "nothing was changed" in seen) == (1, True)
        code, seen = each.at_terminal("tarantella", *command, prompt=ACCEPT, answer="yes")
        assert code == 0, seen
        assert fingerprint(seen) == fingerprint(one.out("tarantella", "security", "peerca", "--show")) == accepted
        assert each.server in one.out("tarantella", "status")
    for each in (one, two, three):
        lines = [line.split() for line in each.out("tarantella", "status").splitlines() if line.startswith("  - ")]
        assert [line[3] for line in lines[:3]] == ["Accepting"] * 3
        assert [line[1] for line in lines[:3]] == [one.server, two.server, three.server]
    # Another server becomes the primary, with a CA of its own.
    one.out("tarantella", "array", "make_primary", "--secondary", two.server)
    assert one.out("tarantella", "array", "list").splitlines()[0] == f"{two.server} (primary)"
    shown = {fingerprint(each.out("tarantella", "security", "peerca", "--show")) for each in (one, two, three)}
    assert len(shown) == 1
    assert shown != {accepted}
    refused = one.run("tarantella", "array", "detach", "--secondary", two.server)
    assert (refused.returncode, "PRIMARY_CANNOT_DETACH" in refused.stderr) == (1, True)


@pytest.mark.slow
def test_the_password_cache_is_filled_listed_re_keyed_and_emptied(
    all_services: ControlPlane, alone: LegacyShell, tmp_path: Path
) -> None:
    batch = tmp_path / "entries.txt"
    batch.write_text(
        '--person "o=Indigo Insurance/cn=Bill Orange" --resource .../_dns/prague.example.com --resuser bill --respass one\n'
        "--anon --resource .../_wns/INDIGO --resuser guest --respass two\n"
    )
    assert alone.out("tarantella", "passcache", "new", "--file", str(batch)) == ""
    command = (
        "passcache",
        "new",
        "--person",
        "o=Indigo Insurance/cn=Rusty Spanner",
        "--resource",
        ".../_dns/rome.example.com",
    )
    code, seen = alone.at_terminal(
        "tarantella", *command, "--resuser", "rusty", prompt="Password: ", answer="a canary at the terminal"
    )
    assert (code, "canary" in seen) == (0, False)
    listed = alone.out("tarantella", "passcache", "list")
    assert [line.rpartition("--resuser ")[2] for line in listed.splitlines()] == ['"bill"', '"rusty"', '"guest"']

    assert alone.out("tarantella", "config", "edit", "--security-newkeyonrestart", "1") == ""
    assert alone.out("tarantella", "config", "list", "--security-newkeyonrestart") == "security-newkeyonrestart: 1\n"
    with all_services.client() as client:
        array = client.membership.members.get(alone.server).array
        begun = client.credentials.keys.rotate(array)
        *_, _ = client.credentials.operations.watch(begun.name)
        assert len({entry.key for entry in client.credentials.entries.list(array)}) == 1
        [bill] = client.credentials.entries.list(array, user_name="bill")
        assert client.credentials.entries.reveal(bill.name, purpose="support").secret.text() == "one"
    assert alone.out("tarantella", "passcache", "list") == listed

    edit = ("passcache", "edit", "--anon", "--resource", ".../_wns/INDIGO", "--resuser", "visitor")
    assert alone.out("tarantella", *edit, given="three\n") == ""
    assert alone.out("tarantella", "passcache", "delete", "--resource", ".../_dns/prague.example.com") == ""
    assert alone.out("tarantella", "passcache", "delete", "--person", "o=Indigo Insurance/cn=Rusty Spanner") == ""
    assert alone.out("tarantella", "passcache", "list") == '--anon --resource ".../_wns/INDIGO" --resuser "visitor"\n'


@pytest.mark.slow
@pytest.mark.parametrize("in_process", [False, True], ids=["through the gateway", "in process"])
def test_certificates_are_requested_signed_with_the_built_in_ca_inspected_matched_and_verified(
    alone: LegacyShell, in_process: bool
) -> None:
    alone = replace(alone, in_process=in_process)
    site = ("OU:Support", "O:Example", "ST:Buckinghamshire", "C:GB")
    # One server's services, then those of a cluster.
    for name, *asked in (
        ("webadmin", f"CN:{alone.server}", *site),
        ("webbridge", "CN:join.example.com", "subjectAltName:join.example.com,www.example.com"),
        ("callbridge", f"CN:{alone.server}"),
        ("loadbalancer", "CN:cluster.example.com", f"subjectAltName:cluster.example.com,{alone.server}"),
        ("xmpp", "CN:xmpp.example.com", f"subjectAltName:xmpp.example.com,{alone.server}"),
    ):
        assert alone.out("mmp", "pki", "csr", name, *asked).endswith(CREATED.format(name))
    assert alone.run("mmp", "database", "cluster", "remove").returncode == 2  # no such noun yet
    alone.out("mmp", "pki", "selfsigned", "dbca", "CN:tplab.local")
    names = "subjectAltName:cmscore2.example.com,cmscore3.example.com"  # the manual's line leaves out the CN
    server = alone.run("mmp", "pki", "csr", "dbserver", f"CN:{alone.server}", names)
    assert (server.returncode, server.stdout.endswith(CREATED.format("dbserver"))) == (0, True)
    assert "WARNING" in server.stderr
    assert alone.out("mmp", "pki", "csr", "dbclient", "CN:postgres").endswith(CREATED.format("dbclient"))
    for name in ("dbserver", "dbclient"):
        alone.out("mmp", "pki", "sign", name, "dbca")
        assert "Issuer: CN=tplab.local" in alone.out("mmp", "pki", "inspect", f"{name}.crt")
        assert alone.out("mmp", "pki", "match", f"{name}.key", f"{name}.crt") == "Key and certificate match\n"
        assert alone.out("mmp", "pki", "verify", f"{name}.crt", "dbca.crt") == f"{name}.crt: OK\n"
    assert alone.run("mmp", "pki", "match", "dbclient.key", "dbserver.crt").returncode == 1
    listed = alone.out("mmp", "pki", "list").splitlines()
    assert listed[0] == "User supplied certificates and keys:"
    assert len(listed) == 9 + 2 * 5
    assert alone.run("mmp", "webadmin", "disable").returncode == 2


@pytest.mark.slow
def test_the_audit_logs_name_the_operator_and_the_gateway(all_services: ControlPlane, alone: LegacyShell) -> None:
    secret = "a canary in the command line"
    new = ("passcache", "new", "--anon", "--resource", f".../_dns/{alone.server}", "--resuser", "guest")
    assert alone.run("tarantella", *new, "--respass", secret).returncode == 0
    assert alone.run("tarantella", *new, "--respass", secret).returncode == 1
    me = all_services.run("whoami", "-q").out.strip()
    with all_services.client() as client:

        def records(logged: Iterable[LoggedRecord], method: str, target: str) -> list[Record]:
            found = [one.record for one in logged if one.record.method.endswith(method)]
            return [record for record in found if target in repr(record.targets)]

        def verbs() -> set[tuple[str, str, str]]:
            found = records(client.audit.list(), "/AppendVerbRecord", "tarantella passcache new")
            return {(one.subject, one.code, one.reason) for one in found}

        wanted = {(me, "OK", ""), (me, "ALREADY_EXISTS", "ENTRY_EXISTS")}
        wait_for("the records of the commands", lambda: verbs() >= wanted)
        in_vault = client.credentials.audit
        created = wait_for("a record", lambda: records(in_vault.list(), "/CreateEntry", alone.server))
        assert secret not in repr(list(client.audit.list()))
    assert {(one.subject, one.caller.rpartition("/")[0]) for one in created} == {
        (me, f"spiffe://{all_services.context.trust_domain}/services/gateway")
    }
    assert secret not in repr(created)


CALLING = frozenset(
    {
        "_async.calls",
        "_async.client",
        "_async.rotating",
        "_async.runtime",
        "_async.services",
        "channel_credentials",
        "common_values",
        "context",
        "errors",
        "files",
        "identity",
        "keys",
        "length_prefix",
        "renewal_files",
        "retry",
        "status",
        "targets",
        "ticket_key",
    }
)
"""Modules of the SDK that every call needs."""
BY_GATEWAY = frozenset(
    {
        "_async.legacy_commands",
        "ca",
        "ca.v1",
        "ca.v1.operator_session_service_pb2",
        "gateway",
        "gateway.v1",
        "gateway.v1.legacy_gateway_pb2",
        "legacy_values",
        "plaintext",
        "proof_values",
        "proof_wire",
        "session_proofs",
    }
)
TO_MEMBERSHIP = frozenset(
    {
        "_async.members",
        "membership",
        "membership.v1",
        "membership.v1.array_service_pb2",
        "membership.v1.bundle_service_pb2",
        "membership.v1.member_service_pb2",
        "membership.v1.rotation_service_pb2",
        "membership.v1.setting_service_pb2",
        "membership_values",
        "membership_wire",
        "operations",
        "operations.v1",
        "operations.v1.operation_service_pb2",
        "request_ids",
        "wire_fields",
    }
)
TO_VAULT = frozenset(
    {
        "_async.vault",
        "credentials",
        "credentials.v1",
        "credentials.v1.access_policy_service_pb2",
        "credentials.v1.entry_service_pb2",
        "credentials.v1.key_service_pb2",
        "plaintext",
        "vault_values",
        "vault_wire",
    }
)
HEAVY = frozenset({"asyncssh", "keyreeve_chassis", "pydantic", "sqlalchemy", "tuf", "typer", "yaml"})


@pytest.mark.slow
def test_a_command_loads_the_modules_of_its_calls_and_no_others(alone: LegacyShell) -> None:
    here = replace(alone, in_process=True)
    for shell, command, allowed in (
        (alone, ("array", "list"), BY_GATEWAY),
        (here, ("array", "list"), TO_MEMBERSHIP),
        (here, ("passcache", "list"), TO_MEMBERSHIP | TO_VAULT),
    ):
        loaded = shell.modules("tarantella", *command)
        assert not {name.partition(".")[0] for name in loaded} & HEAVY
        ours = {name.removeprefix("keyreeve.") for name in loaded if name.startswith("keyreeve.")}
        assert ours - {"_async"} <= CALLING | allowed, command
