"""What a listener accepts before anything is called: handshakes, connections, kinds of TLS."""

import asyncio
import gc
import socket
import ssl
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from OpenSSL import SSL

from keyreeve.errors import PeerIdentityInvalid
from keyreeve_chassis.rpc import limits, wire
from keyreeve_chassis.tls import LiveServerCredentials, ServerIdentity, TlsFailed, TlsSession
from support.echo_service import COUNT, ECHO, WATCH, EchoRequest, EchoResponse, echo_service
from support.http2_attacker import DATA, END_STREAM, RawConnection, Seen, frame, half_sent, message
from support.peer_certificates import Hierarchies, Leaf
from support.running import Harness, client_tls, refused, serving
from support.waiting import wait_until


@asynccontextmanager
async def connected(server: Harness, context: ssl.SSLContext | None = None) -> AsyncIterator[asyncio.StreamReader]:
    """A connection whose handshake is over, or one that says nothing."""
    host, port = server.address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port), ssl=context)
    try:
        yield reader
    finally:
        writer.close()


async def ended(reader: asyncio.StreamReader) -> bool:
    """Whether the server ends the connection within 20 s."""
    try:
        async with asyncio.timeout(20):
            while await reader.read(65536):
                pass
    except (ConnectionError, ssl.SSLError):
        return True
    except TimeoutError:
        return False
    return True


def person(server: Harness, name: str = "ann") -> Leaf:
    return server.hierarchies.control.person(f"operators/admin/{name}")


async def answered(server: Harness, name: str = "ann") -> bool:
    async with server.channel(person(server, name)) as channel:
        echo = channel.unary_unary(ECHO, EchoRequest.SerializeToString, EchoResponse.FromString)
        return (await echo(EchoRequest(text="here"), timeout=20)).text == "here"


async def test_earlier_versions_of_tls_are_refused():
    async with serving([echo_service()]) as server:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            async with connected(server, client_tls(server, person(server), most=ssl.TLSVersion.TLSv1_2)):
                raise AssertionError("the handshake was completed")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_tls_1_2_is_accepted_where_it_is_allowed_and_no_session_resumes(version):
    async with serving([echo_service()], tls_minimum="1.2") as server:
        context = client_tls(server, person(server), most=version)
        host, port = server.address.split(":")

        def connect(session: ssl.SSLSession | None) -> tuple[ssl.SSLSession | None, str | None, bool | None]:
            with (
                socket.create_connection((host, int(port)), timeout=20) as plain,
                context.wrap_socket(plain, session=session) as secured,
            ):
                secured.recv(1)
                return secured.session, secured.version(), secured.session_reused

        first, spoken, _ = await asyncio.to_thread(connect, None)
        assert spoken == version.name.replace("_", ".")
        assert (await asyncio.to_thread(connect, first))[2] is False
        assert await answered(server)


def test_a_resumed_session_ends_after_its_handshake():
    hierarchies = Hierarchies.make()
    leaf = hierarchies.control.service()
    terms = SSL.Context(SSL.TLS_SERVER_METHOD)
    terms.set_session_id(b"test")
    terms.set_max_proto_version(SSL.TLS1_2_VERSION)
    terms.set_alpn_select_callback(lambda _connection, _offered: b"h2")
    terms.use_certificate(leaf.certificate)
    terms.use_privatekey(leaf.key)
    there = SSL.Context(SSL.TLS_CLIENT_METHOD)
    there.set_alpn_protos([b"h2"])

    def shake_hands(session: SSL.Session | None) -> SSL.Session | None:
        client, server = SSL.Connection(there, None), SSL.Connection(terms, None)
        client.set_connect_state()
        server.set_accept_state()
        if session is not None:
            client.set_session(session)
        ours, complete = TlsSession(server), False
        for _ in range(8):
            with suppress(SSL.WantReadError):
                client.do_handshake()
            with suppress(SSL.WantReadError):
                ours.take_in(client.bio_read(65536))
            complete = complete or ours.handshake()
            if output := ours.output():
                client.bio_write(output)
        assert complete
        session = client.get_session()
        for one in (client, server):
            one.shutdown()  # else OpenSSL does not resume its session
        return session

    session = shake_hands(None)
    with pytest.raises(TlsFailed, match="resumed"):
        shake_hands(session)


@pytest.mark.parametrize("alpn", [None, "http/1.1"])
async def test_a_peer_that_does_not_speak_http2_is_disconnected(alpn):
    async with serving([echo_service()]) as server:
        async with connected(server, client_tls(server, person(server), alpn=alpn)) as reader:
            assert await ended(reader)
        assert await answered(server)


async def test_a_session_cannot_be_resumed():
    async with serving([echo_service()]) as server:
        context = client_tls(server, person(server))
        host, port = server.address.split(":")

        def connect(session: ssl.SSLSession | None) -> tuple[ssl.SSLSession | None, bool | None]:
            with (
                socket.create_connection((host, int(port)), timeout=20) as plain,
                context.wrap_socket(plain, session=session) as secured,
            ):
                secured.recv(1)  # the server's SETTINGS come after any ticket
                return secured.session, secured.session_reused

        first, _ = await asyncio.to_thread(connect, None)
        _, reused = await asyncio.to_thread(connect, first)
        assert reused is False


async def test_a_handshake_that_is_not_finished_in_time_is_ended():
    async with serving([echo_service()], handshake_timeout=0.2) as server:
        async with connected(server) as reader:
            assert await ended(reader)
        assert await answered(server)


async def test_a_peer_that_says_nothing_after_its_handshake_is_disconnected():
    async with (
        serving([echo_service()], handshake_timeout=1) as server,
        connected(server, client_tls(server, person(server))) as reader,
    ):
        assert await ended(reader)


async def test_beyond_the_most_handshakes_the_oldest_gives_way():
    async with (
        serving([echo_service()], handshakes=2) as server,
        connected(server) as first,
        connected(server),
        connected(server),
    ):
        assert await ended(first)
        assert await answered(server)


async def test_connections_beyond_the_most_are_closed_at_once_and_others_go_on():
    async with serving([echo_service()], connections=1) as server, server.channel(person(server)) as channel:
        echo = channel.unary_unary(ECHO, EchoRequest.SerializeToString, EchoResponse.FromString)
        await echo(EchoRequest(), timeout=20)
        async with connected(server) as reader:
            assert await ended(reader)
        assert (await echo(EchoRequest(text="still"), timeout=20)).text == "still"


async def test_one_identity_has_so_many_connections_and_another_its_own():
    async with (
        serving([echo_service()], open_connections_per_peer=1) as server,
        server.channel(person(server)) as first,
    ):
        echo = first.unary_unary(ECHO, EchoRequest.SerializeToString, EchoResponse.FromString)
        await echo(EchoRequest(), timeout=20)
        async with server.channel(person(server)) as second:
            told = await refused(second.unary_unary(ECHO)(b"", timeout=20))
        assert told.code is grpc.StatusCode.UNAVAILABLE
        assert await answered(server, "bob")
        assert (await echo(EchoRequest(text="still"), timeout=20)).text == "still"


async def test_nothing_is_read_from_a_caller_that_costs_too_much_for_nothing_and_others_go_on(monkeypatch):
    monkeypatch.setattr(limits, "_READING", (0.01, 0.001))
    async with serving([echo_service()], single_request_bytes=2 * 1024 * 1024) as server:
        seen = Seen()
        connections = [
            await RawConnection.connect(server.address, client_tls(server, person(server)), seen) for _ in range(2)
        ]
        fill = half_sent(ECHO, 50, 2 * 1024 * 1024)
        filling = [asyncio.ensure_future(fill(one)) for one in connections]
        resting = server.running._listener._resting
        await wait_until("its connections rest", lambda: resting and len(next(iter(resting.values()))) == 2, 20)
        assert await answered(server, "bob")
        assert resting
        for one in filling:
            one.cancel()
        await asyncio.gather(*filling, return_exceptions=True)
        for connection in connections:
            await connection.close()


async def test_a_connection_gives_the_buffers_of_its_handshake_back_and_goes_on():
    async with serving([echo_service()]) as server, server.channel(person(server)) as channel:
        echo = channel.unary_unary(ECHO, EchoRequest.SerializeToString, EchoResponse.FromString)
        await echo(EchoRequest(text="before"), timeout=20)
        [connection] = server.running._listener._connections
        await wait_until("its buffers are new", lambda: connection._let_go, 20)
        text = "x" * 200_000
        assert (await echo(EchoRequest(text=text), timeout=20)).text == text


async def test_a_connection_that_is_closed_makes_room_for_another():
    async with serving([echo_service()], open_connections_per_peer=1) as server:
        assert await answered(server)
        for _ in range(50):
            if not server.running._listener.of_peer:
                break
            await asyncio.sleep(0)
        assert await answered(server)


@pytest.mark.parametrize("key", [ed25519.Ed25519PrivateKey.generate(), ec.generate_private_key(ec.SECP521R1())])
async def test_a_client_key_of_an_unusual_kind_identifies_nobody(key):
    async with serving([echo_service()]) as server:
        leaf = server.hierarchies.control.leaf(uris=["spiffe://example.test/operators/admin/ann"], key=key)
        with pytest.raises(PeerIdentityInvalid, match="neither RSA nor"):
            server.verifier.verify(leaf.pem)
        assert await statuses_of_a_call(server, leaf) == {str(grpc.StatusCode.UNAUTHENTICATED.value[0]): 1}
        assert await statuses_of_a_call(server, person(server)) == {str(wire.OK): 1}


async def statuses_of_a_call(server: Harness, leaf: Leaf) -> dict[str, int]:
    """What a call over TLS is answered; grpcio's client loads no key that it would not accept itself."""
    seen = Seen()
    connection = await RawConnection.connect(server.address, client_tls(server, leaf), seen)
    try:
        number, opened = connection.headers(ECHO, ("grpc-timeout", "20S"))
        await connection.send(opened + frame(DATA, END_STREAM, number, message(b"")))
        async with asyncio.timeout(20):
            await connection.end_of(number)
    finally:
        await connection.close()
    return seen.statuses


def test_the_key_exchange_is_hybrid_with_clients_that_support_it():
    hierarchies = Hierarchies.make()
    leaf = hierarchies.control.service()
    identity = ServerIdentity(leaf.chain_pem, leaf.key_pem, hierarchies.control_root.pem)
    session = LiveServerCredentials(lambda: identity).build(ask_for_certificates=False).accept()
    there = SSL.Context(SSL.TLS_CLIENT_METHOD)
    there.set_alpn_protos([b"h2"])
    client, complete = SSL.Connection(there, None), False
    client.set_connect_state()
    for _ in range(3):
        with suppress(SSL.WantReadError):
            client.do_handshake()
        with suppress(SSL.WantReadError):
            session.take_in(client.bio_read(65536))
        complete = complete or session.handshake()
        if output := session.output():
            client.bio_write(output)
    assert complete
    assert client.get_group_name() == "X25519MLKEM768"


async def test_answers_that_a_client_does_not_read_are_bounded_and_others_are_answered():
    async with serving([echo_service()], buffered_bytes=1024 * 1024) as server:
        budget = server.running.budget
        connection = await RawConnection.connect(server.address, client_tls(server, person(server)), Seen())
        try:
            connection.take_all_answers()
            connection.stop_reading()
            for _ in range(20):
                number, opened = connection.headers(COUNT, ("grpc-timeout", "50S"))
                await connection.send(opened + frame(DATA, END_STREAM, number, message(b"")))
            await wait_until("much is unread", lambda: budget.total > 512 * 1024)
            for _ in range(4):
                assert await answered(server, "bob")
                assert budget.total <= 1024 * 1024
        finally:
            await connection.close()
        await wait_until("nothing is held", lambda: budget.total == 0)


@pytest.mark.parametrize("doing", ["nothing", "a call", "a stream that is cut", "a flood"])
async def test_a_connection_that_ended_leaves_nothing_to_the_garbage_collector(doing):
    gc.disable()
    try:
        async with serving([echo_service()]) as server:
            channel = server.channel(person(server))
            echo = channel.unary_unary(ECHO, EchoRequest.SerializeToString, EchoResponse.FromString)
            if doing == "nothing":
                await asyncio.wait_for(channel.channel_ready(), 20)
            elif doing == "a stream that is cut":
                stream = channel.unary_stream(WATCH, EchoRequest.SerializeToString)(EchoRequest(text="first"))
                await stream.read()
            else:
                await asyncio.gather(*(echo(EchoRequest(), timeout=20) for _ in range(50 if doing == "a flood" else 1)))
            [transport] = server.running._listener._connections
            left = weakref.ref(transport._connection)
            del transport
            if doing == "a stream that is cut":
                del stream  # grpcio keeps the connection for it
            await channel.close()
            await wait_until("it is gone", lambda: left() is None, 5)
    finally:
        gc.enable()
