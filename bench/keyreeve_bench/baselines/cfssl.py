"""cfssl 1.6: `cfssl serve` with its certificate database in SQLite, committed to disk before each answer."""

import datetime
import json
import sqlite3
from collections.abc import Sequence
from contextlib import AsyncExitStack, closing
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from keyreeve_bench import corpus
from keyreeve_bench.baselines.authority import make_authority
from keyreeve_bench.baselines.baseline import Baseline, free_port, program, serve

# The tables of release 1.6; its own migrations need another tool (goose).
_TABLES = """
CREATE TABLE certificates (
  serial_number TEXT NOT NULL, authority_key_identifier TEXT NOT NULL, ca_label TEXT, status TEXT NOT NULL,
  reason INTEGER, expiry TIMESTAMP, revoked_at TIMESTAMP, pem TEXT NOT NULL, issued_at TIMESTAMP, not_before TIMESTAMP,
  metadata TEXT, sans TEXT, common_name TEXT, PRIMARY KEY (serial_number, authority_key_identifier));
CREATE TABLE ocsp_responses (
  serial_number TEXT NOT NULL, authority_key_identifier TEXT NOT NULL, body TEXT NOT NULL, expiry TIMESTAMP,
  PRIMARY KEY (serial_number, authority_key_identifier));
"""


async def start(directory: Path, csrs: Sequence[bytes], stack: AsyncExitStack) -> Baseline:
    """Start `cfssl serve` in a directory. Raises `keyreeve.errors.StartFailed`."""
    command = program("cfssl")
    make_authority(directory, datetime.datetime.now(datetime.UTC))
    with closing(sqlite3.connect(directory / "certs.db")) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(_TABLES)
    profile = {"usages": ["digital signature", "key encipherment", "server auth"], "expiry": "2160h"}
    _write(directory / "config.json", {"signing": {"default": profile}})
    _write(directory / "db.json", {"driver": "sqlite3", "data_source": "file:certs.db?_sync=FULL&_journal=WAL"})
    port = free_port()
    await serve(
        [
            command, "serve", "-address=127.0.0.1", f"-port={port}", "-ca=ca.pem", "-ca-key=ca.key",
            "-config=config.json", "-db-config=db.json", "-tls-cert=server.pem", "-tls-key=server.key",
            "-mutual-tls-ca=root.pem", "-loglevel=4",
        ],
        directory,
        port,
        stack,
    )  # fmt: skip
    requests = directory / "requests"
    pem = (x509.load_der_x509_csr(csr).public_bytes(Encoding.PEM).decode() for csr in csrs)
    corpus.save(requests, [json.dumps({"certificate_request": request}).encode() for request in pem])
    orders = directory / "orders.json"
    _write(
        orders,
        {
            "port": port,
            "path": "/api/v1/cfssl/sign",
            "success": "BEGIN CERTIFICATE",
            "roots": str(directory / "root.pem"),
            "certificate": str(directory / "client.pem"),
            "key": str(directory / "client.key"),
        },
    )
    return Baseline("mutual TLS, SQLite with synchronous=FULL", orders, requests)


def _write(path: Path, document: object) -> None:
    path.write_text(json.dumps(document))
