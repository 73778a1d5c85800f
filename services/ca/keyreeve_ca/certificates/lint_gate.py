"""The lint gate: run the linter outside a transaction, then act if nothing changed meanwhile."""

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
    """Full linting of a certificate or a profile; one line of text per finding, without excused ones."""

    def certificate(self, der: bytes) -> Sequence[str]: ...
    def profile(self, version: ProfileVersion, issuer: Issuer) -> Sequence[str]: ...


class _Changed(Exception):
    """Authorities or profiles changed while the linter ran; the gate starts again."""


async def when_lint_clean(
    store: Store,
    lint: Callable[[Sequence[Authority], Sequence[ProfileVersion]], Sequence[str]],
    subject: str,
    commit: Commit[Transaction, V, R],
    act: Callable[[Transaction], V],
) -> R:
    """Lint outside any transaction, then act in one if what was linted is still current.

    Raises `LintFindings` that names the `subject`, and what `act` raises.
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
    """Build the refusal that lists the linter's findings."""
    return errors.LintFindings(
        f"{len(findings)} lint findings for {subject!r}: {findings[0]}", metadata={"findings": "\n".join(findings[:20])}
    )
