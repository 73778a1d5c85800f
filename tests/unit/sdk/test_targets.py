"""The gRPC target that stands for the addresses of a service."""

from collections.abc import Iterable

import pytest

from keyreeve.errors import ServiceUnreachable
from keyreeve.targets import Address, needs_resolving, target_of

HOSTS = {"ca.test": ["10.0.0.9", "10.0.0.8"], "six.test": ["2001:db8::6"], "odd.test": ["not an address"]}


def resolve(host: str, port: int) -> Iterable[Address]:
    if host.endswith(".test") and host not in HOSTS:
        raise OSError("Name or service not known")
    return [(ip, port) for ip in HOSTS.get(host, [host])]


@pytest.mark.parametrize("address", ["10.0.0.1:7443", "[::1]:7443", "gone.test:7443"])
def test_one_address_is_left_to_grpc(address: str) -> None:
    assert target_of([address], resolve) == address
    assert not needs_resolving([address])


@pytest.mark.parametrize(
    ("addresses", "target"),
    [
        (["10.0.0.2:2", "10.0.0.1:1"], "ipv4:10.0.0.1:1,10.0.0.2:2"),
        (["ca.test:1", "10.0.0.8:1", "10.0.0.8:2"], "ipv4:10.0.0.8:1,10.0.0.8:2,10.0.0.9:1"),
        (["[::2]:2", "[::1]:1"], "ipv6:[::1]:1,[::2]:2"),
        (["[::1]:1", "10.0.0.1:1"], "ipv6:[::ffff:10.0.0.1]:1,[::1]:1"),
        (["six.test:1", "ca.test:1"], "ipv6:[::ffff:10.0.0.8]:1,[::ffff:10.0.0.9]:1,[2001:db8::6]:1"),
        (["gone.test:1", "10.0.0.1:1"], "ipv4:10.0.0.1:1"),
    ],
)
def test_several_addresses_become_a_sorted_list_of_ip_addresses(addresses: list[str], target: str) -> None:
    assert target_of(addresses, resolve) == target
    assert target_of(addresses[::-1], resolve) == target


def test_only_lists_with_names_are_resolved_again() -> None:
    assert needs_resolving(["10.0.0.1:1", "ca.test:1"])
    assert not needs_resolving(["10.0.0.1:1", "[::1]:1"])


def test_names_of_which_none_resolves_are_an_error_that_names_them() -> None:
    with pytest.raises(ServiceUnreachable, match=r"gone\.test: Name or service not known; odd\.test: "):
        target_of(["gone.test:1", "odd.test:1"], resolve)
