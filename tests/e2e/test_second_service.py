"""A second service beside the CA, of real processes: enrolled by token, killed, asleep for a month, audited."""

import json
import os
import signal
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from keyreeve import Context
from keyreeve.cli.supervision.processes import read_pid
from keyreeve.cli.supervision.supervisor import pid_file
from keyreeve.identity import service_dns_name
from keyreeve.operation_values import OperationState
from keyreeve.operations.v1 import operation_service_pb2
from support.control_plane import ControlPlane, new_database
from support.faketime import later
from support.inventory_cli import INVENTORY, STATELESS
from support.inventory_contract import (
    SERVICE,
    AddItemRequest,
    CountItemsRequest,
    Item,
    ListItemsRequest,
    ListItemsResponse,
    WatchItemsRequest,
)
from support.programs import FAKETIME, needs
from support.running import refusal
from support.waiting import wait_for

MIB = 1024
LARGEST_PSS = 110 * MIB


class Machine:
    """A control plane with the inventory service, and calls of that with the certificate of `caller`."""

    def __init__(self, directory: Path, extra: dict[str, str], caller: Context | None = None) -> None:
        self.plane = ControlPlane(directory, module="support.inventory_cli")
        self.extra = extra
        self.caller = caller

    def run(self, *arguments: object) -> Any:
        return self.plane.run(*arguments, extra=self.extra)

    def up(self) -> str:
        done = self.run("up", "--port", "0")
        assert done.code == 0, done.err + done.out
        return done.out

    def pid(self, service: Any = INVENTORY) -> int:
        pid = read_pid(pid_file(self.plane.state_directory, service))
        assert pid is not None
        return pid

    @contextmanager
    def channel(self, service: Any = INVENTORY) -> Iterator[grpc.Channel]:
        context = self.plane.context
        caller = self.caller or context
        credentials = grpc.ssl_channel_credentials(
            context.bundle.read_bytes(), caller.key.read_bytes(), caller.certificate.read_bytes()
        )
        options = [("grpc.ssl_target_name_override", service_dns_name(service.name, context.trust_domain))]
        with grpc.secure_channel(context.endpoint(service.name), credentials, options=options) as channel:
            yield channel

    def call(self, method: str, request: Any, answer: Any, service: Any = INVENTORY) -> Any:
        with self.channel(service) as channel:
            call = channel.unary_unary(
                SERVICE + method,
                request_serializer=lambda message: message.SerializeToString(),
                response_deserializer=answer.FromString,
            )
            return call(request, timeout=60, wait_for_ready=True)

    def add(self, item_id: str, request_id: str = "") -> Any:
        return self.call("AddItem", AddItemRequest(item_id=item_id, request_id=request_id or str(uuid.uuid4())), Item)

    def verify_audit(self) -> None:
        """Verify the audit log of the inventory service; its first checkpoint is signed within a second."""
        arguments = ("audit", "verify", "--service", "membership")
        wait_for("an intact audit log", lambda: self.run(*arguments).code == 0, 10)

    def items(self) -> list[str]:
        return [item.name for item in self.call("ListItems", ListItemsRequest(), ListItemsResponse).items]


def outcome(work: Any) -> str:
    """How a call ends: `OK`, or the reason of its refusal."""
    try:
        work()
    except grpc.RpcError as error:
        return refusal(error).reason or str(error.code())
    return "OK"


pytestmark = pytest.mark.faults


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> str:
    return new_database(request)


@pytest.fixture
def machine(tmp_path: Path, database: str) -> Iterator[Machine]:
    extra = {"PYTHONPATH": str(Path(__file__).parents[1])}
    if database.startswith("postgresql"):
        extra |= {f"KEYREEVE_{name}_DATABASE__URL": database for name in ("CA", "MEMBERSHIP")}
    made = Machine(tmp_path, extra)
    yield made
    made.run("down")


def pss(pid: int) -> int:
    """KiB of memory, shared pages counted in part."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in rollup if line.startswith("Pss:"))


def test_a_second_service_enrolls_serves_survives_a_kill_and_has_an_intact_audit_log(machine: Machine) -> None:
    machine.up()
    request_id = str(uuid.uuid4())
    added = machine.add("a1", request_id)
    assert added == machine.add("a1", request_id), "a repeat gets the same answer"
    assert added.creator.startswith("spiffe://dev.localhost/operators/admin/")
    assert outcome(lambda: machine.add("a2", request_id)) == "REQUEST_ID_REUSED"
    assert outcome(lambda: machine.add("../a")) == "FIELD_INVALID"
    for number in range(25):
        machine.add(f"b{number:02}")

    os.kill(machine.pid(), signal.SIGKILL)
    killed = machine.pid()
    wait_for("another process", lambda: machine.pid() != killed, 30)
    assert machine.items()[:2] == ["a1", "b00"], "what was answered is stored"

    with machine.channel() as channel:
        watch = channel.unary_stream(
            SERVICE + "WatchItems",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=Item.FromString,
        )(WatchItemsRequest(), timeout=30)
        seen = [next(watch).name for _ in range(26)]
        machine.add("c1")
        assert next(watch).name == "c1"
        assert seen[0] == "a1"
        watch.cancel()

    begun = machine.call("CountItems", CountItemsRequest(request_id=str(uuid.uuid4())), operation_service_pb2.Operation)
    with machine.plane.client() as client:
        operations = client.service("membership").operations
        wait_for("an operation that ends", lambda: operations.get(begun.name).state is not OperationState.RUNNING)
        counted = operations.get(begun.name)
        assert (counted.state, counted.done) == (OperationState.SUCCEEDED, 27)

    machine.verify_audit()
    killed = machine.pid(STATELESS)
    os.kill(killed, signal.SIGKILL)
    wait_for("another process without a database", lambda: machine.pid(STATELESS) != killed, 30)
    only = machine.call("ListItems", ListItemsRequest(), ListItemsResponse, STATELESS).items
    assert [item.name for item in only] == ["only"], "a service without a database serves, too"
    assert machine.run("doctor").code == 0
    for service in (INVENTORY, STATELESS):
        assert pss(machine.pid(service)) <= LARGEST_PSS


@pytest.mark.thorough_on("sqlite")
def test_an_operator_who_is_removed_is_refused_by_the_second_service(machine: Machine) -> None:
    machine.up()
    token = machine.run("operator", "invite", "carl", "--role", "admin", "-q")
    assert token.code == 0, token.err
    accepted = machine.plane.run("operator", "accept", "--dir", "carl", given=token.out.encode(), extra=machine.extra)
    assert accepted.code == 0, accepted.err
    directory = machine.plane.directory
    carl = Machine(directory, machine.extra, Context.load(directory / "carl" / "context.json"))
    wait_for("a known operator", lambda: outcome(carl.items) == "OK", 5)
    removed = machine.run("operator", "remove", "carl")
    assert removed.code == 0, removed.err
    wait_for("a refusal", lambda: outcome(carl.items) in {"PEER_OPERATOR_UNKNOWN", "PEER_CERTIFICATE_REVOKED"}, 5)


@pytest.mark.thorough_on("postgresql")
@needs(FAKETIME)
def test_after_a_month_asleep_up_lets_the_second_service_back_in(machine: Machine) -> None:
    machine.up()
    machine.add("a1")
    assert machine.run("down").code == 0
    machine.extra |= later(31)
    machine.up()
    listed = machine.run("status", "-o", "json")
    states = {service["service"]: service["state"] for service in json.loads(listed.out)["services"]}
    assert set(states.values()) == {"serving"}, states
    machine.verify_audit()
