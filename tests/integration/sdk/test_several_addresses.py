"""A client of services with several addresses: where its calls go, and what it connects to, over real mutual TLS."""

import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import keyreeve
from keyreeve import aio
from keyreeve.errors import ContextInvalid, ServiceUnreachable
from keyreeve.retry import NO_RETRY
from support.sdk_forms import ClientForm
from support.service_instances import Instance, Instances
from support.waiting import wait_for

DEAD = "127.0.0.1:1"


@pytest.fixture
def instances(tmp_path: Path) -> Iterator[Instances]:
    with Instances.running(tmp_path) as running:
        yield running


def get(client: Any) -> Any:
    return client.operations.get("1")


def call_until(client: keyreeve.Client, called: Callable[[], bool]) -> None:
    """Call until the channel has connected to all that this test waits for."""
    wait_for("calls reach every instance", lambda: get(client) and called())


def spread(client: keyreeve.Client, instances: list[Instance], calls: int = 60) -> list[int]:
    """How many of so many calls each instance answers, once all of them are connected."""
    call_until(client, lambda: all(instance.calls for instance in instances))
    before = [instance.calls for instance in instances]
    for _ in range(calls):
        get(client)
    return [instance.calls - earlier for instance, earlier in zip(instances, before, strict=True)]


def test_calls_are_spread_evenly_over_ip_addresses_of_both_families_and_names(instances: Instances) -> None:
    three = [instances.start("a"), instances.start("b", host="[::1]"), instances.start("c")]
    by_name = three[2].address.replace("127.0.0.1", "localhost")
    context = instances.context(ca=[three[0].address, three[1].address, by_name])
    with keyreeve.Client(context, retry=NO_RETRY) as client:
        assert spread(client, three) == [20, 20, 20]


async def test_asyncio_calls_are_spread_too(instances: Instances) -> None:
    two = [instances.start("a"), instances.start("b")]
    async with aio.Client(instances.context(ca=[one.address for one in two])) as client:
        for _ in range(200):
            await client.operations.get("1")
    assert sum(one.calls for one in two) == 200
    assert all(one.calls > 20 for one in two)


async def test_no_call_fails_when_an_address_is_down(instances: Instances, form: ClientForm) -> None:
    up = instances.start("a")
    context = instances.context(ca=[DEAD, up.address])
    for _ in range(20):
        assert (await form.run(context, get, retry=NO_RETRY)).name == "operations/a"


def test_calls_and_mutations_survive_the_loss_of_an_instance_and_use_it_again(instances: Instances) -> None:
    stays, goes = instances.start("stays"), instances.start("goes")
    with keyreeve.Client(instances.context(ca=[stays.address, goes.address])) as client:
        call_until(client, lambda: bool(stays.calls and goes.calls))
        goes.stop()
        for _ in range(50):
            assert get(client).name == "operations/stays"
            assert client.operations.cancel("1").name == "operations/stays"
        host, _, port = goes.address.rpartition(":")
        again = instances.start("again", host=host, port=int(port))
        call_until(client, lambda: bool(again.calls))


def test_an_address_where_another_service_answers_gets_no_call(instances: Instances) -> None:
    ca, other = instances.start("ca"), instances.start("other", service="membership")
    with keyreeve.Client(instances.context(ca=[other.address, ca.address]), retry=NO_RETRY) as client:
        for _ in range(20):
            assert get(client).name == "operations/ca"
    assert other.calls == 0
    alone = instances.context(ca=[other.address])
    with keyreeve.Client(alone, retry=NO_RETRY) as client, pytest.raises(ServiceUnreachable, match="ca at 127"):
        get(client)
    assert other.calls == 0


async def test_the_certificate_is_replaced_while_an_address_is_down(instances: Instances, form: ClientForm) -> None:
    two = [instances.start("a"), instances.start("b")]
    context = instances.context(ca=[*(one.address for one in two), DEAD])

    def rotate(client: Any) -> Any:
        instances.give_certificate()
        return client.rotate()

    assert await form.run(context, rotate)
    for _ in range(10):
        await form.run(context, get)
    new = (context.certificate).read_bytes().strip()
    assert {caller.strip() for one in two for caller in one.callers} == {new}


def test_a_name_that_moves_to_another_address_is_followed(
    instances: Instances, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = instances.start("before")
    port = int(before.address.rpartition(":")[2])
    where = "127.0.0.1"
    real = socket.getaddrinfo

    def resolve(host: str, *rest: Any, **options: Any) -> Any:
        return real(where if host == "ca.example.test" else host, *rest, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with keyreeve.Client(instances.context(ca=[f"ca.example.test:{port}", DEAD])) as client:
        assert get(client).name == "operations/before"
        after = instances.start("after", host="127.0.0.2", port=port)
        where = "127.0.0.2"
        before.stop()

        def is_followed() -> bool:
            with suppress(ServiceUnreachable):  # until the name has been looked up again
                get(client)
            return bool(after.calls)

        wait_for("calls go where the name leads", is_followed)
        assert get(client).name == "operations/after"


# --- Several services ----------------------------------------------------------------------------------------------------


async def test_each_service_is_called_at_its_own_addresses(instances: Instances, form: ClientForm) -> None:
    ca, membership = instances.start("ca"), instances.start("membership", service="membership")
    context = instances.context(ca=[ca.address], membership=[membership.address])
    assert (await form.run(context, get)).name == "operations/ca"
    found = await form.run(context, lambda client: client.service("membership").operations.get("1"))
    assert found.name == "operations/membership"
    assert (ca.calls, membership.calls) == (1, 1)


def test_a_service_that_is_not_called_is_not_connected_to(instances: Instances) -> None:
    membership = instances.start("membership", service="membership")
    with socket.create_server(("127.0.0.1", 0)) as unused:
        unused.settimeout(0.5)
        ca = f"127.0.0.1:{unused.getsockname()[1]}"
        with keyreeve.Client(instances.context(ca=[ca], membership=[membership.address])) as client:
            service = client.service("membership")
            assert service.operations.get("1").name == "operations/membership"
            assert client.service("membership") is service
            instances.give_certificate()
            assert client.rotate()
            assert service.is_connected
            assert not client.ca.is_connected
            with pytest.raises(TimeoutError):
                unused.accept()
        assert not service.is_connected


def test_a_context_may_leave_the_ca_out(instances: Instances) -> None:
    membership = instances.start("membership", service="membership")
    with keyreeve.Client(instances.context(membership=[membership.address])) as client:
        assert client.service("membership").operations.get("1").name == "operations/membership"
        with pytest.raises(ContextInvalid, match="'ca'; it knows membership"):
            get(client)


def test_an_unknown_service_is_refused_by_name_and_a_closed_client_opens_nothing(instances: Instances) -> None:
    client = keyreeve.Client(instances.context(ca=[DEAD]))
    with pytest.raises(ContextInvalid, match="'vault'; it knows ca"):
        client.service("vault")
    client.close()
    with pytest.raises(RuntimeError, match="closed"):
        client.service("ca")
