"""Coming in: `enrol(token, directory)` turns an enrolment token into an identity; `keyreeve.aio.enrol` for asyncio."""

from keyreeve._blocking.enrolling import enrol
from keyreeve.enrolment_token import EnrolmentToken

__all__ = ["EnrolmentToken", "enrol"]
