"""The clients for asyncio.

`async with keyreeve.aio.Client() as client: await client.certificates.sign(...)`
"""

from keyreeve._async.authorities import AuthorityClient
from keyreeve._async.certificates import CertificateClient
from keyreeve._async.client import Client
from keyreeve._async.enrollment import enroll, exchange_service_account_token
from keyreeve._async.identity_renewal import IdentityRenewal
from keyreeve._async.profiles import ProfileClient
from keyreeve._async.services import CaClient, CredentialsClient, ServiceClient
from keyreeve._async.tokens import TokenClient

__all__ = [
    "AuthorityClient",
    "CaClient",
    "CertificateClient",
    "Client",
    "CredentialsClient",
    "IdentityRenewal",
    "ProfileClient",
    "ServiceClient",
    "TokenClient",
    "enroll",
    "exchange_service_account_token",
]
