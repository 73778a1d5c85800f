"""The whole contract as it is generated, and the access rows of the CA's servicers: whoever walks these misses nothing."""

import importlib
import pkgutil
from collections.abc import Iterator
from typing import Any

from google.protobuf.descriptor import MethodDescriptor

import keyreeve
from keyreeve_ca import serving
from keyreeve_chassis.access import Rows

ENROL = "/keyreeve.ca.v1.EnrolmentService/Enrol"
"""The one method that newcomers call, on a listener of its own."""


def _methods() -> Iterator[tuple[str, MethodDescriptor]]:
    for module in pkgutil.walk_packages(keyreeve.__path__, "keyreeve."):
        if module.name.endswith("_service_pb2"):
            for service in importlib.import_module(module.name).DESCRIPTOR.services_by_name.values():
                yield from ((f"/{service.full_name}/{one.name}", one) for one in service.methods)


def _rows() -> Rows:
    found: dict[str, Any] = {}
    for module in pkgutil.iter_modules(serving.__path__, "keyreeve_ca.serving."):
        found |= getattr(importlib.import_module(module.name), "ACCESS", {})
    return found


METHODS = dict(_methods())
"""Every method of every service, by its path."""
ROWS = _rows()
"""Their access rows in the CA."""
