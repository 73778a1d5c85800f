"""Nothing is used before it lints clean: the loop that activation and new profile versions share."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from keyreeve import errors
from keyreeve_ca.certificates.plan import Issuer
from keyreeve_ca.profiles.profile import ProfileVersion
from keyreeve_ca.store.ports import Authority, Store, Transaction, config_version
from keyreeve_chassis.idempotency.ports import Commit

V = TypeVar("V")
R = TypeVar("R")


class Linter(Protocol):
    """Full linting of what has been, or would be, signed; each finding as one line of text, excused ones left out."""

    def certificate(self, der: bytes) -> Sequence[str]: ...
    def profile(self, version: ProfileVersion, issuer: Issuer) -> Sequence[str]: ...


class _Changed(Exception):
    """Authorities or profiles changed while the linter ran; it begins again."""


async def when_lint_clean(
    store: Store,
    lint: Callable[[Sequence[Authority], Sequence[ProfileVersion]], Sequence[str]],
    subject: str,
    commit: Commit[Transaction, V, R],
    act: Callable[[Transaction], V],
) -> R:
    """Lint outside of any transaction, then act in one if what was linted is still what there is.

    Raises `LintFindings` naming the `subject`, and what `act` raises.
    """
    while True:
        authorities, profiles, based_on = await store.read(
            lambda tx: (tx.authorities(), tx.profiles(), config_version(tx))
        )
        if findings := await asyncio.to_thread(lint, authorities, profiles):
            raise lint_findings(subject, findings)

        def checked(tx: Transaction, based_on: int = based_on) -> V:
            if config_version(tx) != based_on:
                raise _Changed
            return act(tx)

        try:
            return await commit(checked)
        except _Changed:
            continue


def lint_findings(subject: str, findings: Sequence[str]) -> errors.KeyreeveError:
    """The refusal that lists what the linter found."""
    return errors.LintFindings(
        f"{len(findings)} lint findings for {subject!r}: {findings[0]}", metadata={"findings": "\n".join(findings[:20])}
    )
