"""A PostgreSQL pod that only speaks TLS, and the Secrets that the profile `production` takes."""

import os
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from chart.e2e.cluster import Namespace, restricted

NAME = "database"
SERVICES = ("ca", "membership", "credentials")
START = """set -eu
umask 077
mkdir -p /data/tls
cp -f /tls/tls.crt /tls/tls.key /data/tls/
if [ ! -e /data/db/PG_VERSION ]; then
    initdb -D /data/db -U admin --auth-local=trust --auth-host=scram-sha-256 --pwfile=/tls/password -E UTF8 --locale=C >/dev/null
    echo "hostssl all all all scram-sha-256" >/data/db/pg_hba.conf
    echo "local all all trust" >>/data/db/pg_hba.conf
fi
exec postgres -D /data/db -c listen_addresses='*' -c unix_socket_directories=/tmp -c max_connections=100 \\
    -c ssl=on -c ssl_cert_file=/data/tls/tls.crt -c ssl_key_file=/data/tls/tls.key
"""


def make_server(namespace: Namespace, image: str) -> None:
    """Start the server; its data goes with its pod, and outlives the release."""
    host = f"{NAME}.{namespace.name}.svc"
    authority, certificate, key = _certificates(host)
    password = secrets.token_urlsafe(16)
    namespace.secret("database-server", {"tls.crt": certificate, "tls.key": key, "password": password})
    labels = {"app": NAME}
    namespace.apply(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": NAME},
            "spec": {"selector": labels, "ports": [{"port": 5432}]},
        },
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": NAME, "labels": labels},
            "spec": restricted(
                [
                    {
                        "name": NAME,
                        "image": image,
                        "imagePullPolicy": "IfNotPresent",
                        "command": ["sh", "-c", START],
                        "ports": [{"containerPort": 5432}],
                        "readinessProbe": {
                            "exec": {"command": ["psql", "-h", "/tmp", "-U", "admin", "-c", "", "postgres"]},
                            "periodSeconds": 1,
                        },
                        "volumeMounts": [
                            {"name": "data", "mountPath": "/data"},
                            {"name": "tmp", "mountPath": "/tmp"},
                            {"name": "tls", "mountPath": "/tls"},
                        ],
                    }
                ],
                [
                    {"name": "data", "emptyDir": {}},
                    {"name": "tmp", "emptyDir": {}},
                    {"name": "tls", "secret": {"secretName": "database-server", "defaultMode": 0o440}},
                ],
                user=65534,  # initdb wants a user with a name
            ),
        },
    )
    urls = {
        service: f"postgresql://kr_{service}:{secrets.token_urlsafe(16)}@{host}:5432/postgres" for service in SERVICES
    }
    namespace.secret("database-urls", {**urls, "ca.crt": authority})
    namespace.secret("database-admin", {"url": f"postgresql://admin:{password}@{host}:5432/postgres"})


def make_keys(namespace: Namespace) -> None:
    """Make the key-encryption keys and the recovery key."""
    namespace.secret("kek", {name: os.urandom(32) for name in (*SERVICES, "vault-root")})
    recovery = ed25519.Ed25519PrivateKey.generate()
    pem = recovery.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    namespace.secret("recovery-key", {"recovery.pem": pem})


def _certificates(host: str) -> Sequence[bytes]:
    """A CA, and a certificate and key for the server."""
    now = datetime.now(UTC)
    issuer, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority_name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "The database's CA")])

    def builder(subject: x509.Name, public_key: ec.EllipticCurvePublicKey, *, ca: bool) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder(authority_name, subject, public_key, x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=5))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )

    authority = builder(authority_name, issuer.public_key(), ca=True).sign(issuer, hashes.SHA256())
    certificate = (
        builder(x509.Name([]), key.public_key(), ca=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=True)
        .sign(issuer, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return authority.public_bytes(Encoding.PEM), certificate.public_bytes(Encoding.PEM), private
