import time
from datetime import timedelta

import pytest
from google.rpc import code_pb2  # type: ignore[import-untyped]

from keyreeve.errors import FieldInvalid, Violation, register
from keyreeve_chassis.guard import failures
from keyreeve_chassis.guard.call import NO_TLS, Call


@pytest.mark.parametrize("text", ["mine-1234", "0197-ab.C_d", "x" * 64])
def test_a_sane_request_id_is_taken_from_the_metadata(text):
    assert Call("/x.Y/Z", metadata=[("other", "1"), ("x-request-id", text)]).request_id == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "short",
        "x" * 65,
        "with space",
        "line\nbreak1",
        "\u00e4" * 8,
        b"bytes-1234",
    ],
)
def test_any_other_request_id_is_replaced_by_one_of_ours(text):
    call = Call("/x.Y/Z", metadata=[("x-request-id", text)])
    assert call.request_id != text
    assert len(call.request_id) == 32
    assert call.request_id == call.request_id


def test_requests_without_an_id_get_different_ones():
    assert Call("/x.Y/Z").request_id != Call("/x.Y/Z").request_id


def test_the_time_left_counts_down_and_may_be_unlimited():
    assert Call("/x.Y/Z").remaining() is None
    assert 4 < Call("/x.Y/Z", deadline=time.monotonic() + 5).remaining() <= 5
    assert Call("/x.Y/Z", deadline=time.monotonic() - 5).remaining() < 0


def test_tls_facts_are_read_from_what_grpc_says():
    call = Call("/x.Y/Z", tls={"ssl_tls_version": [b"TLSv1.3"], "ssl_session_reused": [b"true"]})
    assert (call.tls.version, call.tls.session_reused) == ("TLSv1.3", True)
    assert Call("/x.Y/Z", tls={}).tls == NO_TLS == Call("/x.Y/Z").tls


@pytest.mark.parametrize("reason", sorted(register()))
def test_every_reason_becomes_a_status_within_the_budget(reason):
    error = register()[reason](
        "\ud800\u202e\x1b[31m" + "x" * 5000,
        violations=[Violation("f" * 500, "d" * 500)] * 50,
        retry_after=timedelta(seconds=1),
        metadata={"n": "v" * 1000},
    )
    code, message, trailers = failures.trailers(error, Call("/x.Y/Z"))
    assert code_pb2.Code.Name(code) == error.code
    assert "\x1b" not in message
    assert "\u202e" not in message
    assert len(trailers[0][1]) <= failures.MAX_STATUS_BYTES


def test_a_timeout_of_the_handlers_own_is_not_the_callers_deadline():
    early = Call("/x.Y/Z", deadline=time.monotonic() + 60)
    assert failures.translate(TimeoutError("inner"), early).reason == "INTERNAL"
    late = Call("/x.Y/Z", deadline=time.monotonic() - 1)
    assert failures.translate(TimeoutError(), late).reason == "DEADLINE_PASSED"
    ours = FieldInvalid("x")
    assert failures.translate(ours, early) is ours
