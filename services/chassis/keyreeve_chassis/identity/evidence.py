"""What lets a service enroll: a token in a file."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from keyreeve import aio
from keyreeve.enrollee_files import EnrolleeFiles
from keyreeve.enrollment_token import EnrollmentToken
from keyreeve.errors import (
    FileUnusable,
    KeyreeveError,
    TokenExpired,
    TokenMalformed,
    TokenNotAllowed,
    TokenRefused,
    TokenRevoked,
    TokenUsed,
)
from keyreeve.identity import SpiffeId

ENROLL_SECONDS = 30.0
_FINAL = (TokenExpired, TokenMalformed, TokenNotAllowed, TokenRefused, TokenRevoked, TokenUsed)
"""Refusals after which the same token is not tried again."""


class Evidence(Protocol):
    """Proof to the CA service that this process may have its identity; it may come and be replaced at any time."""

    async def enroll(self, identity: SpiffeId, directory: Path) -> bool:
        """Enroll into `directory`, unless there is no evidence that has not been refused: then the answer is False.

        The key is on disk before anything is sent. A repeat after a failure continues with what is in the directory.
        Raises `keyreeve.errors`.
        """
        ...


@dataclass(frozen=True)
class TokenFile:
    """An enrollment token in a file, which is removed once the token has been used."""

    path: Path
    _refused: set[bytes] = field(default_factory=set, init=False, repr=False, compare=False)
    """Digests of the tokens that this process has tried in vain."""

    async def enroll(self, identity: SpiffeId, directory: Path) -> bool:
        """Enroll with the token, if there is one that has not been refused."""
        try:
            text = self.path.read_text("ascii").strip()
        except FileNotFoundError:
            return False
        except (OSError, ValueError) as failure:
            raise FileUnusable(f"cannot read the enrollment token in {self.path}: {failure}") from None
        digest = hashlib.sha256(text.encode()).digest()
        if digest in self._refused:
            return False
        try:
            token = EnrollmentToken.parse(text)
            if token.identity != identity:
                raise TokenNotAllowed(f"the token in {self.path} is for {token.identity}, not for {identity}")
            await aio.enroll(token, directory, timeout=ENROLL_SECONDS)
        except KeyreeveError as failure:
            if EnrolleeFiles(directory).is_enrolled():
                self._remove()  # the certificate is there: what failed came after it
                return True
            if isinstance(failure, _FINAL):
                self._refused.add(digest)
            raise
        self._remove()
        return True

    def _remove(self) -> None:
        try:
            self.path.unlink(missing_ok=True)
        except OSError as failure:
            raise FileUnusable(f"cannot remove the used enrollment token {self.path}: {failure}") from None
