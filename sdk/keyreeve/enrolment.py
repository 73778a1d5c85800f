"""Coming in, and staying in, for programs and people (`keyreeve.aio` has both for asyncio).

`enrol(token, directory)` turns an enrolment token into an identity; `OwnIdentity(context, client).keep()` renews it in time
and follows the bundles, in a thread or task of its own.
"""

from keyreeve._blocking.enrolling import enrol
from keyreeve._blocking.own_identity import OwnIdentity
from keyreeve.enrolment_token import EnrolmentToken

__all__ = ["EnrolmentToken", "OwnIdentity", "enrol"]
