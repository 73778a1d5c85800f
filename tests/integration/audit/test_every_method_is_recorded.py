"""Every method of every service, called in every way that needs no preparation: exactly one record each."""

import uuid
from collections import Counter

import grpc
import pytest

from keyreeve_ca.serving import (
    audit_servicer,
    authority_servicer,
    certificate_servicer,
    issuance_servicer,
    profile_servicer,
)
from keyreeve_chassis.access import Rows
from support.fake_ca_server import METHODS
from support.running_ca import AUDITOR, MEMBER, RunningCa
from support.waiting import wait_for

SECRET_WORDS = ("secret", "password", "csr", "key", "document", "proof", "mac", "signature", "token")


def path_of(role: str) -> str:
    return {"workloads": "workloads/billing/api", "members": MEMBER}.get(role, f"{role}/one")


def call(ca: RunningCa, who: str, method: str, identifier: str) -> grpc.StatusCode:
    """Call a method with an empty request; read the first message of a stream and leave."""
    descriptor = METHODS[method]
    channel, metadata = ca.channel(who), (("x-request-id", identifier),)
    try:
        if descriptor.client_streaming:
            list(channel.stream_stream(method)(iter(()), timeout=5, metadata=metadata))
        elif descriptor.server_streaming:
            stream = channel.unary_stream(method)(b"", timeout=5, metadata=metadata)
            next(stream)
            stream.cancel()
        else:
            channel.unary_unary(method)(b"", timeout=10, metadata=metadata)
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK


ROWS: Rows = {
    **authority_servicer.ACCESS,
    **certificate_servicer.ACCESS,
    **profile_servicer.ACCESS,
    **issuance_servicer.ACCESS,
    **audit_servicer.ACCESS,
}


def test_every_method_leaves_exactly_one_record_whoever_calls_it(ca):
    expected: dict[str, tuple[str, str]] = {}
    for method, row in ROWS.items():
        if method.endswith(("/HaltIssuance", "/ResumeIssuance")):
            continue  # their own tests call them: this CA is shared
        allowed = sorted(role.value for role in row.roles)
        for who in {path_of(allowed[0]), MEMBER}:
            identifier = uuid.uuid4().hex
            expected[identifier] = (method, call(ca, who, method, identifier).name)
    assert {"OK", "PERMISSION_DENIED", "INVALID_ARGUMENT"} <= {code for _, code in expected.values()}

    def all_there() -> list[object] | None:
        found = [one.record for one in ca.client(AUDITOR).audit.list()]
        ours = [r for r in found if r.call_id in expected]
        return ours if len(ours) >= len(expected) else None

    records = wait_for("a record of every call", all_there)
    counts = Counter(r.call_id for r in records)
    assert {expected[i] for i, n in counts.items() if n != 1} == set()
    for record in records:
        assert (record.method, record.code) == expected[record.call_id]


@pytest.mark.parametrize("method", sorted(ROWS))
def test_no_method_records_what_could_be_a_secret(method):
    for path in ROWS[method].records:
        last = path.rpartition(".")[2]
        assert not any(word in last.split("_") for word in SECRET_WORDS), path
