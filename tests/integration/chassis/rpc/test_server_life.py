"""A server from start to stop: health, reflection, long streams, drain."""

import asyncio
import signal
import subprocess
import sys
from contextlib import AsyncExitStack
from datetime import timedelta

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from keyreeve_chassis.plain_http.metrics_page import serve_metrics
from keyreeve_chassis.processes.drain import stop_signals
from support.echo_service import ECHO, WATCH, EchoRequest, EchoResponse, EchoServicer, echo_service
from support.running import Harness, pinned, refused, serving

CHECK = "/grpc.health.v1.Health/Check"
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def admin(server: Harness) -> grpc.aio.Channel:
    return server.channel(server.hierarchies.control.person("operators/admin/ann"))


def plaintext(server: Harness) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(f"127.0.0.1:{server.running.health_port}")


def echo(channel: grpc.aio.Channel):
    return channel.unary_unary(ECHO, EchoRequest.SerializeToString, EchoResponse.FromString)


def watch(channel: grpc.aio.Channel):
    return channel.unary_stream(WATCH, EchoRequest.SerializeToString, EchoResponse.FromString)


async def health(channel: grpc.aio.Channel, service: str = "") -> int:
    check = channel.unary_unary(
        CHECK, health_pb2.HealthCheckRequest.SerializeToString, health_pb2.HealthCheckResponse.FromString
    )
    return (await check(health_pb2.HealthCheckRequest(service=service), timeout=20)).status


async def test_health_is_served_on_both_listeners():
    async with serving([echo_service()]) as server, admin(server) as channel, plaintext(server) as probe:
        assert await health(channel) == SERVING
        assert await health(probe) == SERVING
        assert await health(probe, "test.echo.v1.EchoService") == SERVING
        with pytest.raises(grpc.aio.AioRpcError) as unknown:
            await health(probe, "other.Service")
    assert unknown.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_pod_without_ipv4_serves_calls_health_and_metrics():
    # The hosts are those of the chart's settings with `ipv6`.
    port, stop_metrics = await serve_metrics("::", 0)
    async with serving([echo_service()], host="::", health_host="::") as server:
        leaf = server.hierarchies.control.person("operators/admin/ann")
        address = f"[::1]:{server.running.port}"
        async with (
            grpc.aio.secure_channel(address, server.credentials(leaf), options=pinned()) as channel,
            grpc.aio.insecure_channel(f"[::1]:{server.running.health_port}") as probe,
        ):
            assert await echo(channel)(EchoRequest(text="hello"), timeout=20) == EchoResponse(text="hello")
            assert await health(probe) == SERVING
        reader, writer = await asyncio.open_connection("::1", port)
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: pod\r\nConnection: close\r\n\r\n")
        assert b" 200 " in await reader.readline()
        writer.close()
    await stop_metrics()


@pytest.mark.parametrize("rpc", ["Check", "List", "Watch"])
async def test_health_on_the_mutual_tls_listener_is_told_to_known_callers_alone(rpc):
    async with serving([echo_service()]) as server:
        stranger = server.hierarchies.control.leaf(uris=["spiffe://elsewhere.test/operators/admin/ann"])
        async with server.channel(stranger) as channel:
            told = await refused(channel.unary_stream(f"/grpc.health.v1.Health/{rpc}")(b"", timeout=20))
        assert told.reason == "PEER_TRUST_DOMAIN_WRONG"


async def test_a_watch_of_health_ends_when_its_caller_is_revoked():
    async with serving([echo_service()], verify_interval=0.02) as server:
        leaf = server.hierarchies.control.person("operators/admin/ann")
        async with server.channel(leaf) as channel:
            watching = channel.unary_stream(
                "/grpc.health.v1.Health/Watch", response_deserializer=health_pb2.HealthCheckResponse.FromString
            )(b"")
            assert (await watching.read()).status == SERVING
            server.revocations.serials.add(leaf.certificate.serial_number)
            assert (await refused(watching)).reason == "PEER_CERTIFICATE_REVOKED"


async def test_the_plaintext_listener_serves_health_and_nothing_else():
    servicer = EchoServicer()
    async with serving([echo_service(servicer)]) as server, plaintext(server) as probe:
        for name in (ECHO, WATCH, "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", "/x/Y"):
            told = await refused(probe.unary_unary(name)(b"", timeout=20))
            assert (told.code, told.reason) == (grpc.StatusCode.UNIMPLEMENTED, "METHOD_UNKNOWN"), name
    assert servicer.calls == []


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_reflection_serves_the_contract_to_known_callers(version):
    async with serving([echo_service()]) as server, admin(server) as channel:
        ask = channel.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            reflection_pb2.ServerReflectionRequest.SerializeToString,
            reflection_pb2.ServerReflectionResponse.FromString,
        )
        stream = ask()
        await stream.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        services = [one.name for one in (await stream.read()).list_services_response.service]
        await stream.write(reflection_pb2.ServerReflectionRequest(file_containing_symbol="grpc.health.v1.Health"))
        file = await stream.read()
        await stream.done_writing()
        assert await stream.read() is grpc.aio.EOF
    assert services == [
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
        "test.echo.v1.EchoService",
    ]
    assert file.file_descriptor_response.file_descriptor_proto


async def test_reflection_can_be_left_out():
    async with serving([echo_service()], reflection=False) as server, admin(server) as channel:
        call = channel.unary_unary("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")
        assert (await refused(call(b"", timeout=20))).reason == "METHOD_UNKNOWN"


async def test_a_stream_ends_well_when_its_life_is_over():
    servicer = EchoServicer()
    async with serving([echo_service(servicer)], stream_life=0.1) as server, admin(server) as channel:
        stream = watch(channel)(EchoRequest(text="first"))
        assert (await stream.read()).text == "first"
        assert await stream.read() is grpc.aio.EOF
        assert await stream.code() is grpc.StatusCode.OK
    assert servicer.watch_ended.is_set()


async def test_a_stream_that_its_handler_ends_ends_well():
    servicer = EchoServicer()
    async with serving([echo_service(servicer)]) as server, admin(server) as channel:
        stream = watch(channel)(EchoRequest(text="first"))
        servicer.feed.put_nowait("second")
        servicer.feed.put_nowait(None)
        assert [answer.text async for answer in stream] == ["first", "second"]


async def test_stopping_says_not_serving_ends_streams_and_finishes_calls():
    began, go = asyncio.Event(), asyncio.Event()
    servicer = EchoServicer()

    async def wait(request, call):
        began.set()
        await go.wait()
        return EchoResponse(text="finished")

    servicer.act = wait
    async with serving([echo_service(servicer)]) as server, admin(server) as channel, plaintext(server) as probe:
        stream = watch(channel)(EchoRequest(text="first"))
        await stream.read()
        call = echo(channel)(EchoRequest(), timeout=20)
        await asyncio.wait_for(began.wait(), 20)
        stopping = asyncio.create_task(server.running.stop(20))
        ended = await refused(stream)
        assert await health(probe) == NOT_SERVING
        assert not stopping.done()
        late = await refused(echo(channel)(EchoRequest(), timeout=20))
        go.set()
        assert (await call).text == "finished"
        await asyncio.wait_for(stopping, 20)
    assert (ended.code, ended.reason) == (grpc.StatusCode.UNAVAILABLE, "SERVICE_STOPPING")
    assert ended.retry_after == timedelta(milliseconds=100)
    assert late.code is grpc.StatusCode.UNAVAILABLE


async def test_a_call_that_outlasts_the_grace_is_cancelled():
    began, ended = asyncio.Event(), asyncio.Event()
    servicer = EchoServicer()

    async def wait(request, call):
        began.set()
        try:
            return await asyncio.Event().wait()
        finally:
            ended.set()

    servicer.act = wait
    async with serving([echo_service(servicer)]) as server, admin(server) as channel:
        call = echo(channel)(EchoRequest(), timeout=20)
        await asyncio.wait_for(began.wait(), 20)
        await asyncio.wait_for(server.running.stop(0.05), 20)
        await asyncio.wait_for(ended.wait(), 20)
        assert (await refused(call)).code in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}


async def test_a_new_call_while_stopping_is_refused_as_retryable():
    async with serving([echo_service()]) as server, admin(server) as channel:
        await echo(channel)(EchoRequest(), timeout=20)
        server.running.guard.stop()
        told = await refused(echo(channel)(EchoRequest(), timeout=20))
    assert (told.code, told.reason) == (grpc.StatusCode.UNAVAILABLE, "SERVICE_STOPPING")


async def test_two_servers_share_one_port():
    async with serving([echo_service()]) as first:
        port = first.running.port
        async with serving([echo_service()], first.hierarchies, port=port) as second:
            assert second.running.port == port


def test_the_first_signal_asks_to_stop_and_the_second_insists():
    program = (
        "import asyncio, os, signal\n"
        "from keyreeve_chassis.processes.drain import stop_signals\n"
        "async def main():\n"
        "    stop = stop_signals()\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    await stop.wait()\n"
        "    print('draining', flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.returncode) == ("draining\n", -signal.SIGTERM)


async def test_a_signal_that_did_not_come_asks_nothing():
    stop = stop_signals([signal.SIGUSR1])
    assert not stop.is_set()
    asyncio.get_running_loop().remove_signal_handler(signal.SIGUSR1)


async def test_a_service_listens_on_unix_sockets(tmp_path):
    calls, probes = tmp_path / "calls.sock", tmp_path / "health.sock"
    async with serving([echo_service()], host=f"unix:{calls}", health_host=f"unix:{probes}") as server:
        leaf = server.hierarchies.control.person("operators/admin/ann")
        secured = grpc.aio.secure_channel(f"unix://{calls}", server.credentials(leaf), options=pinned())
        async with secured as channel, grpc.aio.insecure_channel(f"unix://{probes}") as probe:
            assert (await echo(channel)(EchoRequest(text="here"), timeout=20)).text == "here"
            assert await health(probe) == SERVING
        assert (calls.stat().st_mode & 0o777, probes.stat().st_mode & 0o777) == (0o600, 0o600)


async def test_the_next_process_takes_a_unix_socket_over_and_hands_connections_to_the_others(tmp_path):
    place = {"host": f"unix:{tmp_path / 'calls.sock'}", "health_port": None, "shared": tmp_path}
    async with (
        serving([echo_service()], **place) as first,
        serving([echo_service()], first.hierarchies, **place) as second,
    ):
        leaf = first.hierarchies.control.person("operators/admin/ann")
        async with AsyncExitStack() as stack:
            for number in range(1, 5):
                channel = grpc.aio.secure_channel(
                    f"unix://{tmp_path / 'calls.sock'}", first.credentials(leaf), options=pinned()
                )
                await echo(await stack.enter_async_context(channel))(EchoRequest(), timeout=20)
                assert first.running.connections + second.running.connections == number
            assert first.running.connections == second.running.connections == 2
