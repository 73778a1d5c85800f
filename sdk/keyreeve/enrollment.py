"""Enrollment and renewal of the caller's identity.

`keyreeve.aio` has both for asyncio.

`enroll(token, directory)` turns an enrollment token into an identity; `exchange_service_account_token(...)` gets one for the
ServiceAccount token of a Kubernetes pod; `IdentityRenewal(context, client).keep()` renews it
in time and keeps the bundles up to date, in a thread or task of its own.
"""

from keyreeve._blocking.enrollment import enroll, exchange_service_account_token
from keyreeve._blocking.identity_renewal import IdentityRenewal
from keyreeve.enrollment_token import EnrollmentToken

__all__ = ["EnrollmentToken", "IdentityRenewal", "enroll", "exchange_service_account_token"]
