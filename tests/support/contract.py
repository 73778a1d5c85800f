"""All methods that the CA service has, its own and those of every service, and the access rules of its servicers."""

import importlib
import pkgutil
from collections.abc import Iterator
from typing import Any

from google.protobuf.descriptor import MethodDescriptor

import keyreeve
import keyreeve_ca
import keyreeve_chassis
from keyreeve_chassis.guard.access import AccessRules

ENROLL = "/keyreeve.ca.v1.EnrollmentService/Enroll"
"""The only method of the enrollment listener."""
_OF_THE_CA = ("keyreeve.audit.", "keyreeve.ca.", "keyreeve.operations.")


def _methods() -> Iterator[tuple[str, MethodDescriptor]]:
    for module in pkgutil.walk_packages(keyreeve.__path__, "keyreeve."):
        if module.name.endswith("_service_pb2") and module.name.startswith(_OF_THE_CA):
            for service in importlib.import_module(module.name).DESCRIPTOR.services_by_name.values():
                yield from ((f"/{service.full_name}/{one.name}", one) for one in service.methods)


def _rows() -> AccessRules:
    found: dict[str, Any] = {}
    for package in (keyreeve_ca, keyreeve_chassis):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if module.name.endswith("servicer"):
                found |= getattr(importlib.import_module(module.name), "ACCESS", {})
    return found


METHODS = dict(_methods())
"""Every method of the CA service, by its path."""
ROWS = _rows()
"""Access rules of the CA by method."""
