"""Looking at the certificate that a local program presents."""

import socket
import ssl
from contextlib import suppress

from keyreeve_agent.programs.ports import Probe, ProbeProtocol

_SSL_REQUEST = bytes.fromhex("0000000804d2162f")
"""Length 8, code 80877103."""


def presented_certificate(probe: Probe, seconds: float) -> bytes:
    """Return the DER certificate on a port. Blocks. Raises `OSError`.

    Nothing is verified: the caller compares it with the one that it expects.
    """
    host, _, port = probe.address.rpartition(":")
    with socket.create_connection((host.strip("[]"), int(port)), seconds) as connection:
        if probe.protocol is ProbeProtocol.POSTGRESQL:
            connection.sendall(_SSL_REQUEST)
            if connection.recv(1) != b"S":
                raise OSError(f"PostgreSQL at {probe.address} does not offer TLS")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        with context.wrap_socket(connection, server_hostname=host) as tls:
            der = tls.getpeercert(binary_form=True)
            with suppress(OSError):
                tls.unwrap()
    if der is None:
        raise OSError(f"{probe.address} presents no certificate")
    return der
