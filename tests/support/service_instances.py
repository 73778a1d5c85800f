"""Instances of services on loopback that answer with their own name: real gRPC over real mutual TLS."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc

from keyreeve import Context
from keyreeve.operations.v1 import operation_service_pb2 as pb
from keyreeve.operations.v1 import operation_service_pb2_grpc as grpc_pb
from support.peer_certificates import TRUST_DOMAIN, TestCa


class Instance(grpc_pb.OperationServiceServicer):
    """One instance: the operations that it knows all bear its name."""

    def __init__(self, name: str, server: grpc.Server, address: str) -> None:
        self.name = name
        self.server = server
        self.address = address
        self.calls = 0
        self.callers: set[bytes] = set()
        grpc_pb.add_OperationServiceServicer_to_server(self, server)

    def GetOperation(self, request: Any, context: Any) -> pb.Operation:  # noqa: N802  # the name in the contract
        return self._answer(context)

    def CancelOperation(self, request: Any, context: Any) -> pb.Operation:  # noqa: N802  # the name in the contract
        return self._answer(context)

    def _answer(self, context: Any) -> pb.Operation:
        self.calls += 1
        self.callers.add(context.auth_context()["x509_pem_cert"][0])
        return pb.Operation(name=f"operations/{self.name}", state=pb.OPERATION_STATE_RUNNING)

    def stop(self) -> None:
        self.server.stop(grace=0).wait(10)


class Instances:
    """The instances of a control plane whose root is made here, and a caller's context."""

    def __init__(self, directory: Path) -> None:
        self.root = TestCa.root("root")
        self._directory = directory
        self._started: list[Instance] = []
        self.give_certificate()

    @classmethod
    @contextmanager
    def running(cls, directory: Path) -> Iterator["Instances"]:
        made = cls(directory)
        try:
            yield made
        finally:
            for instance in made._started:
                instance.stop()

    def start(self, name: str, *, service: str = "ca", host: str = "127.0.0.1", port: int = 0) -> Instance:
        """Start an instance that presents the certificate of a service."""
        leaf = self.root.service(service)
        server = grpc.server(ThreadPoolExecutor(4))
        credentials = grpc.ssl_server_credentials([(leaf.key_pem, leaf.chain_pem)], self.root.pem, True)
        chosen = server.add_secure_port(f"{host}:{port}", credentials)
        instance = Instance(name, server, f"{host}:{chosen}")
        server.start()
        self._started.append(instance)
        return instance

    def give_certificate(self) -> None:
        """Write the roots, and a new key and certificate, to the files of the caller's context."""
        leaf = self.root.person("operators/admin/ann")
        (self._directory / "control.pem").write_bytes(self.root.pem)
        (self._directory / "me.key").write_bytes(leaf.key_pem)
        (self._directory / "me.pem").write_bytes(leaf.chain_pem)

    def context(self, **endpoints: list[str]) -> Context:
        """The caller's context with these addresses."""
        return Context(
            trust_domain=TRUST_DOMAIN,
            endpoints=endpoints,
            bundle=self._directory / "control.pem",
            estate_bundle=self._directory / "estate.pem",
            certificate=self._directory / "me.pem",
            key=self._directory / "me.key",
        )
