"""What `doctor` says about the transport."""

import resource

import pytest

from keyreeve_chassis.local_admin.transport import look_at_transport
from keyreeve_chassis.rpc.http2 import engines
from keyreeve_chassis.rpc.http2.engines import h2_engine, usable_engine
from keyreeve_chassis.rpc.listener import raise_descriptor_limit


def test_the_libraries_in_use_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    transport, _ = look_at_transport(1)
    assert str(usable_engine()) in transport.message
    assert "OpenSSL" in transport.message
    monkeypatch.setattr("keyreeve_chassis.local_admin.transport.usable_engine", engines.h2_engine)
    transport, _ = look_at_transport(1)
    assert str(h2_engine()) in transport.message


def test_the_limit_of_open_files_is_told_and_what_to_do_when_it_is_below_the_connections() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    _, enough = look_at_transport(most - 1)
    assert not enough.fix
    _, few = look_at_transport(most)
    assert str(most) in few.message
    assert "LimitNOFILE" in few.fix


def test_a_process_raises_its_limit_of_open_files_as_far_as_it_may() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, hard - 1), hard))
    try:
        raise_descriptor_limit()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
