"""Findings about the transport: libraries in use, and how many connections a process may open."""

import resource
from collections.abc import Iterator

from OpenSSL import SSL

from keyreeve_chassis.local_admin.findings import Finding
from keyreeve_chassis.rpc.http2.engines import usable_engine


def look_at_transport(connections: int) -> Iterator[Finding]:
    """Report HTTP/2 and TLS libraries, and whether so many connections fit in the limit of open files."""
    tls = SSL.OpenSSL_version(SSL.OPENSSL_VERSION).decode()
    yield Finding("transport", ok=True, message=f"HTTP/2 by {usable_engine()}, TLS by {tls}")
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = most == resource.RLIM_INFINITY or most > connections
    yield Finding(
        "open files",
        ok=True,
        message=f"a process may open {most} files; listen.connections is {connections}",
        fix="" if enough else "Raise the hard limit of open files (LimitNOFILE), or lower listen.connections",
    )
