"""Translate gRPC failures into `keyreeve.errors`.

It is the inverse of a service's translation into `google.rpc.Status`.
"""

import ipaddress
import os
from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, cast

import grpc
from google.protobuf.message import DecodeError

from keyreeve import errors
from keyreeve.errors import DOMAIN, KeyreeveError, Violation
from keyreeve.targets import is_loopback, split

if TYPE_CHECKING:
    from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]

_DETAILS_KEY = "grpc-status-details-bin"


def error_from_rpc(failure: grpc.RpcError, service: str) -> KeyreeveError:
    """Translate a failed call.

    `service` is the service and its address, for the message.

    A status of a Keyreeve service has an ErrorInfo of our domain and becomes the class of its reason. Any other comes from
    gRPC itself or from a proxy, and is translated by its code.
    """
    code: grpc.StatusCode = failure.code()
    text: str = failure.details() or ""
    status = _status_of(failure)
    if status is not None and (info := _info_of(status)) is not None:
        return errors.from_reason(
            info.reason,
            status.message,
            code=code.name,
            violations=_violations_of(status),
            retry_after=_retry_after_of(status),
            metadata=dict(info.metadata),
        )
    return _error_of_code(code, text, service)


def deadline_passed(service: str) -> errors.DeadlinePassed:
    """Make the error of a call that `service` did not answer in time."""
    return errors.DeadlinePassed(f"the deadline passed before {service} answered", metadata={"service": service})


def _by_proxy(service: str) -> str:
    """Name the proxy through which gRPC has dialed a service; empty when there is none."""
    address = service.rpartition(" at ")[2] or service
    try:
        host, _ = split(address)
        if "," in address or is_loopback(address) or _is_excepted(host):
            return ""
    except ValueError:  # without a port, or a socket
        return ""
    for variable in ("grpc_proxy", "https_proxy", "http_proxy"):  # in gRPC's order
        if proxy := os.environ.get(variable):
            host = proxy.rpartition("@")[2]  # without credentials
            return f" through the proxy {host} of {variable}"
    return ""


def _is_excepted(host: str) -> bool:
    """Whether gRPC dials a host without the proxy: `no_grpc_proxy` or `no_proxy` has its end, or a network with it."""
    listed = next(filter(None, map(os.environ.get, ("no_grpc_proxy", "no_proxy"))), "")
    return any(host.endswith(each) or _is_in(host, each) for each in map(str.strip, listed.split(",")) if each)


def _is_in(host: str, network: str) -> bool:
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False


def _error_of_code(code: grpc.StatusCode, text: str, service: str) -> KeyreeveError:
    metadata = {"service": service}
    match code:
        case grpc.StatusCode.UNAVAILABLE:
            why = _plain(text)
            return errors.ServiceUnreachable(f"no answer from {service}{_by_proxy(service)}: {why}", metadata=metadata)
        case grpc.StatusCode.CANCELLED:
            # The client has not cancelled it: a server that stops ends the calls in progress with this status.
            return errors.ServiceStopping(f"{service} ended the call before it answered", metadata=metadata)
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return deadline_passed(service)
        case grpc.StatusCode.UNIMPLEMENTED:
            return errors.MethodUnknown(f"{service}: {text}")
        case grpc.StatusCode.INTERNAL:
            return errors.InternalError(f"{service}: {text}")
    return errors.family(code.name)(f"{service} answered {code.name}: {text}")


_PLAIN = (
    ("Connection refused", "nothing listens there"),
    ("No such file or directory", "the socket does not exist"),
    ("No route to host", "there is no route to the host"),
    ("Network is unreachable", "the network cannot be reached"),
    ("DNS resolution failed", "the name of the host is not known"),
    ("Domain name not found", "the name of the host is not known"),
    ("FD Shutdown", "the connection was not made in time"),
    ("connection attempt timed out", "the connection was not made in time"),
    ("Timeout occurred", "the connection was not made in time"),
    ("Connection reset by peer", "the connection was closed by the other side"),
    ("Socket closed", "the connection was closed by the other side"),
    ("Broken pipe", "the connection was closed by the other side"),
    ("certificate is not yet valid", "its certificate is not valid yet by this machine's clock"),
    ("certificate has expired", "its certificate has expired by this machine's clock"),
    ("CERTIFICATE_VERIFY_FAILED", "its certificate leads to none of the roots of the context"),
    ("is not in peer certificate", "its certificate is for another name"),
    ("WRONG_VERSION_NUMBER", "what listens there does not speak TLS"),
    ("ALERT_CERTIFICATE_EXPIRED", "it refused this client's certificate as expired"),
    ("ALERT_UNKNOWN_CA", "it does not know the CA of this client's certificate"),
    ("ALERT_BAD_CERTIFICATE", "it refused this client's certificate"),
)
"""Parts of gRPC's texts for connections that fail, and what they mean; the first that fits."""


def _plain(text: str) -> str:
    """Say why a connection failed; gRPC's own text where it is not known."""
    lower = text.lower()
    return next((meaning for part, meaning in _PLAIN if part.lower() in lower), text)


def _status_of(failure: grpc.RpcError) -> "status_pb2.Status | None":
    from google.rpc import status_pb2  # imported by a failure alone: it takes a tenth of a command's start

    for entry in failure.trailing_metadata() or ():
        key, value = cast("tuple[str, bytes]", entry)  # grpc's is a named tuple, grpc.aio's a plain one
        if key == _DETAILS_KEY:
            try:
                return status_pb2.Status.FromString(value)
            except DecodeError:
                return None  # not ours; the code is still meaningful
    return None


def _info_of(status: "status_pb2.Status") -> "error_details_pb2.ErrorInfo | None":
    from google.rpc import error_details_pb2

    for detail in status.details:
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info) and info.domain == DOMAIN:
            return info
    return None


def _retry_after_of(status: "status_pb2.Status") -> timedelta | None:
    from google.rpc import error_details_pb2

    for detail in status.details:
        retry = error_details_pb2.RetryInfo()
        if detail.Unpack(retry):
            return cast("timedelta", retry.retry_delay.ToTimedelta())
    return None


def _violations_of(status: "status_pb2.Status") -> Iterator[Violation]:
    from google.rpc import error_details_pb2

    for detail in status.details:
        bad = error_details_pb2.BadRequest()
        unmet = error_details_pb2.PreconditionFailure()
        if detail.Unpack(bad):
            for field in bad.field_violations:
                yield Violation(field.field, field.description)
        elif detail.Unpack(unmet):
            for violation in unmet.violations:
                yield Violation(violation.subject, violation.description)
