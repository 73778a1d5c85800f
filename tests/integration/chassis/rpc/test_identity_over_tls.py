"""Identity checks on an open TLS connection."""

import asyncio
from dataclasses import replace

import grpc

from keyreeve_chassis.tls import ServerIdentity
from support.echo_service import COUNT, ECHO, WATCH, EchoRequest, EchoResponse, EchoServicer, echo_service
from support.peer_certificates import TestCa
from support.running import pinned, refused, serving

HALF_A_DAY = 12 * 3600


def echo(channel: grpc.aio.Channel):
    return channel.unary_unary(ECHO, EchoRequest.SerializeToString, EchoResponse.FromString)


def watch(channel: grpc.aio.Channel):
    return channel.unary_stream(WATCH, EchoRequest.SerializeToString, EchoResponse.FromString)


async def test_a_certificate_that_expires_on_an_open_channel_is_refused():
    async with (
        serving([echo_service()]) as server,
        server.channel(server.hierarchies.control.person("operators/admin/ann")) as channel,
    ):
        assert (await echo(channel)(EchoRequest(text="in time"), timeout=20)).text == "in time"
        server.clock.offset = HALF_A_DAY + 1
        told = await refused(echo(channel)(EchoRequest(text="late"), timeout=20))
    assert (told.code, told.reason) == (grpc.StatusCode.UNAUTHENTICATED, "PEER_CERTIFICATE_EXPIRED")


async def test_no_session_resumes():
    servicer = EchoServicer()
    async with serving([echo_service(servicer)]) as server:
        leaf = server.hierarchies.control.person("operators/admin/ann")
        options = [("grpc.ssl_session_cache", grpc._cython.cygrpc.SSLSessionCacheLRU(8))]
        for _ in range(2):
            async with server.channel(leaf, options=options) as channel:
                await echo(channel)(EchoRequest(), timeout=20)
    assert [call.tls.session_reused for call in servicer.calls] == [False, False]


async def test_an_issuer_that_is_no_longer_trusted_ends_an_open_channel_at_the_next_call():
    async with (
        serving([echo_service()]) as server,
        server.channel(server.hierarchies.control.person("operators/admin/ann")) as channel,
    ):
        await echo(channel)(EchoRequest(), timeout=20)
        server.trust(server.hierarchies.control_root.issuing("successor"))
        told = await refused(echo(channel)(EchoRequest(), timeout=20))
    assert told.reason == "PEER_ISSUER_UNKNOWN"


async def test_an_open_stream_is_cut_when_its_callers_certificate_expires():
    servicer = EchoServicer()
    async with (
        serving([echo_service(servicer)], verify_interval=0.02) as server,
        server.channel(server.hierarchies.control.person("members/web.example.test")) as channel,
    ):
        stream = watch(channel)(EchoRequest(text="first"))
        assert (await stream.read()).text == "first"
        server.clock.offset = HALF_A_DAY + 1
        told = await refused(stream)
    assert told.reason == "PEER_CERTIFICATE_EXPIRED"
    assert servicer.watch_ended.is_set()


async def test_an_open_stream_is_cut_when_trust_changes():
    async with (
        serving([echo_service()], verify_interval=0.02) as server,
        server.channel(server.hierarchies.control.person("members/web.example.test")) as channel,
    ):
        stream = watch(channel)(EchoRequest(text="first"))
        await stream.read()
        server.trust()
        told = await refused(stream)
    assert told.reason == "PEER_ISSUER_UNKNOWN"


async def test_a_caller_feed_continues_for_a_moment_when_the_trust_in_its_own_caller_is_withdrawn():
    servicer = EchoServicer()
    service = echo_service(servicer)
    rows = {**service.rows, WATCH: replace(service.rows[WATCH], linger=0.3)}
    async with (
        serving([replace(service, rows=rows)], verify_interval=0.02) as server,
        server.channel(server.hierarchies.control.person("members/web.example.test")) as channel,
    ):
        stream = watch(channel)(EchoRequest(text="first"))
        await stream.read()
        server.trust()
        await asyncio.sleep(0.1)
        servicer.feed.put_nowait("your CA is no longer trusted")
        assert (await stream.read()).text == "your CA is no longer trusted"
        told = await refused(stream)
        assert told.reason == "PEER_ISSUER_UNKNOWN"
        again = await refused(watch(channel)(EchoRequest()))
        assert again.reason == "PEER_ISSUER_UNKNOWN"


async def test_a_stream_whose_reader_does_not_read_is_cut_all_the_same():
    servicer = EchoServicer()
    async with (
        serving([echo_service(servicer)], verify_interval=0.02) as server,
        server.channel(server.hierarchies.control.person("operators/admin/ann")) as channel,
    ):
        stream = channel.unary_stream(COUNT, EchoRequest.SerializeToString, EchoResponse.FromString)(
            EchoRequest(), timeout=30
        )
        await stream.read()
        server.trust()
        await asyncio.wait_for(servicer.watch_ended.wait(), 20)
        stream.cancel()


async def test_a_new_certificate_and_new_roots_hold_for_new_connections_while_serving():
    async with serving([echo_service()]) as server:
        before = server.hierarchies
        ann = before.control.person("operators/admin/ann")
        successor_root = TestCa.root("second root")
        successor = successor_root.issuing("second issuing")
        bob = successor.person("operators/admin/bob")
        async with server.channel(ann) as open_channel:
            await echo(open_channel)(EchoRequest(), timeout=20)
            async with server.channel(bob) as channel:
                assert (await refused(echo(channel)(EchoRequest(), timeout=20))).code is grpc.StatusCode.UNAVAILABLE

            leaf = successor.service()
            server.identity = ServerIdentity(leaf.chain_pem, leaf.key_pem, before.control_root.pem + successor_root.pem)
            server.trust(before.control, successor)
            # The new certificate is shown to new connections, and both roots are accepted from them.
            for person in (ann, bob):
                async with server.channel(person, roots_pem=successor_root.pem) as channel:
                    await echo(channel)(EchoRequest(), timeout=20)
            await echo(open_channel)(EchoRequest(), timeout=20)

            server.identity = ServerIdentity(leaf.chain_pem, leaf.key_pem, successor_root.pem)
            async with server.channel(ann, roots_pem=successor_root.pem) as channel:
                assert (await refused(echo(channel)(EchoRequest(), timeout=20))).code is grpc.StatusCode.UNAVAILABLE


async def test_a_source_of_certificates_that_fails_leaves_the_former_one_in_use():
    async with serving([echo_service()]) as server:
        identity = server.identity
        del server.identity
        async with server.channel(server.hierarchies.control.person("operators/admin/ann")) as channel:
            await echo(channel)(EchoRequest(), timeout=20)
        server.identity = identity


async def test_a_server_does_not_show_a_name_that_its_certificate_lacks():
    async with serving([echo_service()]) as server:
        credentials = server.credentials(server.hierarchies.control.person("operators/admin/ann"))
        options = [(key, "gateway.svc.example.test" if "override" in key else value) for key, value in pinned()]
        async with grpc.aio.secure_channel(server.address, credentials, options=options) as channel:
            told = await refused(echo(channel)(EchoRequest(), timeout=20))
    assert told.code is grpc.StatusCode.UNAVAILABLE
