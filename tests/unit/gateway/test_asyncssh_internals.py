"""What the SSH server uses of asyncssh beside its public interface is still what it was."""

import inspect

import asyncssh
from asyncssh import kex, kex_dh
from asyncssh.connection import SSHServerConnection

from keyreeve_gateway.ssh.backoff import FORGET_SECONDS, Backoff
from keyreeve_gateway.ssh.key_exchange import ALGORITHMS, offer_key_exchanges


def test_the_release_is_the_one_that_was_read() -> None:
    assert asyncssh.__version__ == "2.24.1"


def test_a_login_is_decided_by_a_method_that_is_told_the_signature() -> None:
    assert list(inspect.signature(SSHServerConnection.validate_public_key).parameters) == [
        "self",
        "username",
        "key_data",
        "msg",
        "signature",
    ]
    assert "self._session_id" in inspect.getsource(SSHServerConnection.validate_public_key)


def test_the_first_message_of_a_key_exchange_has_a_handler_that_signs() -> None:
    source = inspect.getsource(kex_dh._KexDHBase._process_init)
    for part in ("_parse_client_key(packet)", "get_server_host_key()", "_perform_reply("):
        assert part in source
    reply = inspect.getsource(kex_dh._KexDHBase._perform_reply)
    for part in (
        "_compute_server_shared()",
        "_compute_hash(",
        "_send_reply(key_data, key.sign(h))",
        "send_newkeys(k, h)",
    ):
        assert part in reply
    assert "inspect.isawaitable(result)" in inspect.getsource(asyncssh.connection.SSHConnection._recv_packet)


def test_every_key_exchange_that_is_offered_is_signed_elsewhere() -> None:
    offered = offer_key_exchanges()
    assert offered
    assert set(offered) <= set(ALGORITHMS)
    assert "mlkem768x25519-sha256" in offered
    for name in offered:
        handler, _, _ = kex._kex_handlers[name.encode()]
        assert handler.__name__.startswith("RemotelySigned")
    assert offer_key_exchanges() == offered


def test_failures_slow_down_one_source_and_account_and_are_forgotten() -> None:
    now = [0.0]
    backoff = Backoff(lambda: now[0])
    mine, other_source, other_account = ("10.0.0.1", "admin"), ("10.0.0.2", "admin"), ("10.0.0.1", "operator")
    for expected in (0.0, 0.25, 0.5, 1.0):
        assert backoff.delay(mine) == expected
        backoff.failed(mine)
    assert backoff.delay(other_source) == backoff.delay(other_account) == 0
    for _ in range(70):
        backoff.failed(mine)
    assert backoff.delay(mine) == 16
    backoff.succeeded(mine)
    assert backoff.delay(mine) == 0
    backoff.failed(mine)
    now[0] = FORGET_SECONDS + 1
    assert backoff.delay(mine) == 0
