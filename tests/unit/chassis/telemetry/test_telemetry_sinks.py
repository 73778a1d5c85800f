import asyncio
import os
import subprocess
import sys
import urllib.error
import urllib.request
from types import SimpleNamespace

import pytest
import structlog
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from structlog.testing import LogCapture

from keyreeve.errors import FieldInvalid, InternalError
from keyreeve.identity import Caller, Role, SpiffeId
from keyreeve_chassis.guard.call import Call
from keyreeve_chassis.plain_http.metrics_page import serve_metrics
from keyreeve_chassis.telemetry import calls, line_limit, metrics, tracing
from keyreeve_chassis.telemetry.logging import _Limit

ANN = Caller(SpiffeId.parse("spiffe://example.test/operators/admin/ann"), Role.ADMIN, 1)
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.fixture
def traced():
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield tracing.CallTracer(provider), exporter
    provider.shutdown()


def test_a_call_makes_a_span_that_continues_the_callers_trace(traced):
    tracer, exporter = traced
    sent = [("traceparent", f"00-{TRACE}-00f067aa0ba902b7-01"), ("baggage", "a=b")]
    call = Call("/test.echo.v1.EchoService/Echo", ANN, peer="ipv4:127.0.0.1:1", metadata=sent, request_id="mine-1234")
    with tracer.span(call):
        inside = trace.get_current_span().get_span_context().trace_id
    span = exporter.get_finished_spans()[0]
    assert (span.name, span.kind) == ("test.echo.v1.EchoService/Echo", trace.SpanKind.SERVER)
    assert f"{span.context.trace_id:032x}" == f"{inside:032x}" == TRACE
    assert span.attributes["keyreeve.request_id"] == "mine-1234"
    assert span.attributes["keyreeve.caller"] == str(ANN)


@pytest.mark.parametrize(
    ("failure", "status"), [(FieldInvalid("s3cret"), "FIELD_INVALID"), (KeyError("s3cret"), "KeyError")]
)
def test_a_failure_is_a_spans_status_without_its_text(traced, failure, status):
    tracer, exporter = traced
    with pytest.raises(type(failure)), tracer.span(Call("/x.Y/Z", request_id="mine-1234")):
        raise failure
    span = exporter.get_finished_spans()[0]
    assert span.status.description == status
    assert "s3cret" not in span.to_json()


@pytest.fixture
def lines():
    """The lines that are written, with a clock in `seconds`."""
    seconds, before = [7.0], structlog.get_config()
    limit = _Limit(line_limit.LineLimit(lambda: seconds[0]))
    capture = LogCapture()
    structlog.configure(processors=[limit, capture])
    yield SimpleNamespace(seconds=seconds, written=capture.entries)
    structlog.configure(**before)


def test_a_caller_who_is_refused_again_and_again_does_not_fill_the_log(lines):
    telemetry = calls.MethodTelemetry(None, log_success=False)
    call, refusal = Call("/x.Y/Z", ANN, request_id="mine-1234"), FieldInvalid("no")
    for _ in range(line_limit.BURST + 10):
        telemetry.fail(call, refusal, 0.001)
    telemetry.cancel(call, "CANCELLED", 0.001)
    telemetry.fail(call, InternalError("a mistake of ours"), 0.001)
    lines.seconds[0] += 1
    for _ in range(10):
        telemetry.fail(call, refusal, 0.001)
    lines = lines.written
    reasons = [line.get("reason") for line in lines]
    assert reasons == ["FIELD_INVALID"] * line_limit.BURST + ["INTERNAL"] + ["FIELD_INVALID"] * line_limit.PER_SECOND
    assert [line.get("omitted_before") for line in lines[-2:]] == [None, None]
    assert lines[line_limit.BURST + 1]["omitted_before"] == 11
    assert line_limit.SOURCE not in lines[0]


def test_refused_calls_of_all_methods_together_are_capped_and_leave_lines_to_others(lines):
    telemetry = calls.CallTelemetry()
    methods = [telemetry.of("unary", "x.Y", f"Z{number}") for number in range(60)]
    call, refusal = Call("/x.Y/Z", ANN), FieldInvalid("no")

    def flood() -> int:
        before = len(lines.written)
        for method in methods:
            for _ in range(line_limit.BURST):
                method.fail(call, refusal, 0.001)
        return len(lines.written) - before

    assert flood() == line_limit.BURST_OF_ALL - line_limit.KEPT_FROM_CALLS
    lines.seconds[0] += 1
    assert flood() == line_limit.PER_SECOND_OF_ALL
    structlog.get_logger().info("a halt")
    assert lines.written[-1]["event"] == "a halt"


def test_when_each_call_is_logged_none_is_left_out(lines):
    telemetry = calls.MethodTelemetry(None, log_success=True)
    for _ in range(line_limit.BURST_OF_ALL * 2):
        telemetry.succeed(Call("/x.Y/Z", ANN), 0.001)
    assert len(lines.written) == line_limit.BURST_OF_ALL * 2


def test_tracing_is_off_without_an_endpoint():
    assert tracing.start(None, "ca", "one") is None


def test_tracing_without_its_packages_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.resources", None)
    with pytest.raises(tracing.TracingUnavailable, match="otel"):
        tracing.start("http://127.0.0.1:4317", "ca", "one")


def test_the_chassis_does_not_import_tracing_until_it_is_switched_on():
    program = (
        "import sys\n"
        "import keyreeve_chassis.rpc.server, keyreeve_chassis.telemetry.tracing\n"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry.')], sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


async def test_the_metrics_page_is_served_and_stopped():
    port, stop = await serve_metrics("127.0.0.1", 0)

    def fetch(path: str) -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=20) as page:
            return page.read()

    assert b"python_info" in await asyncio.to_thread(fetch, "/metrics")
    with pytest.raises(urllib.error.HTTPError):
        await asyncio.to_thread(fetch, "/")
    await stop()
    with pytest.raises(urllib.error.URLError):
        await asyncio.to_thread(fetch, "/metrics")


def test_processes_that_share_a_directory_show_one_sum(tmp_path):
    shared = tmp_path / "metrics"
    shared.mkdir()
    program = (
        "import sys\n"
        "from keyreeve_chassis.guard.call import Call\n"
        "from keyreeve_chassis.telemetry.calls import CallTelemetry\n"
        "from keyreeve_chassis.telemetry.metrics import ServerMetrics, render\n"
        "method = CallTelemetry(ServerMetrics()).of('unary', 'x.Y', 'Z')\n"
        "method.begin(); method.succeed(Call('/x.Y/Z'), 0.01)\n"
        "sys.stdout.buffer.write(render()[1])\n"
    )
    environment = {**os.environ, metrics.MULTIPROCESS_VARIABLE: str(shared)}
    first = subprocess.Popen([sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE)
    first.communicate(timeout=60)
    second = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, check=True, timeout=60
    )
    started = [line for line in second.stdout.splitlines() if line.startswith(b"grpc_server_started_total{")]
    assert started == [b'grpc_server_started_total{grpc_method="Z",grpc_service="x.Y",grpc_type="unary"} 2.0']


def test_metrics_that_were_made_before_a_fork_count_in_the_process_after_it(tmp_path):
    """As the processes of the CA do; the one that is forked makes no files."""
    program = (
        "import os, sys\n"
        "from keyreeve_chassis.telemetry import metrics\n"
        "metrics.wait_for_fork()\n"
        "from prometheus_client import Counter, Gauge, Histogram\n"
        "plain, named = Counter('plain', 'A.'), Counter('named', 'B.', ['of']).labels('this')\n"
        "seconds, level = Histogram('seconds', 'C.', buckets=(1,)), Gauge('level', 'D.', multiprocess_mode='livemax')\n"
        "for number in (1, 2):\n"
        "    if os.fork() == 0:\n"
        "        os.environ[metrics.MULTIPROCESS_VARIABLE] = sys.argv[1]\n"
        "        metrics.count_here()\n"
        "        plain.inc(); named.inc(10); seconds.observe(0.5); level.set(number)\n"
        "        os._exit(0)\n"
        "    assert os.wait()[1] == 0\n"
        "assert not any(file.name.endswith(f'_{os.getpid()}.db') for file in os.scandir(sys.argv[1]))\n"
        "os.environ[metrics.MULTIPROCESS_VARIABLE] = sys.argv[1]\n"
        "sys.stdout.buffer.write(metrics.render()[1])\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != metrics.MULTIPROCESS_VARIABLE}
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], env=environment, capture_output=True, check=True, timeout=60
    )
    lines = set(done.stdout.decode().splitlines())
    assert {"plain_total 2.0", 'named_total{of="this"} 20.0', "seconds_count 2.0", "level 2.0"} <= lines


def test_metrics_that_were_made_before_a_fork_count_in_memory_where_nothing_is_shared():
    program = (
        "from keyreeve_chassis.telemetry import metrics\n"
        "metrics.wait_for_fork()\n"
        "from prometheus_client import Counter\n"
        "plain = Counter('plain', 'A.')\n"
        "metrics.count_here()\n"
        "plain.inc()\n"
        "assert b'plain_total 1.0' in metrics.render()[1]\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != metrics.MULTIPROCESS_VARIABLE}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True, timeout=60)
