"""The part of the tour that shows the vault: a password, a launch by a member, a new key, an explanation, a refusal."""

import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keyreeve import Client
    from keyreeve.launch_values import Launch, Resolved

OWNER, DOMAIN = "o=Indigo/cn=Ada", "INDIGO"
SERVER, APPLICATION = "o=Indigo/cn=prague", "o=Indigo/cn=Word"
_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Passwords:
    """What the tour does with the vault of one array."""

    client: "Client"
    """An admin's."""
    member: "Client"
    """Of a member of the array."""
    array: str
    """`arrays/{array}`."""

    @property
    def launch(self) -> "Launch":
        """A launch of the application by the owner."""
        from keyreeve.launch_values import Launch

        return Launch(self.array, OWNER, APPLICATION, SERVER)

    def put(self) -> str:
        """Store a password for the domain of an application server; return it."""
        from keyreeve.launch_values import ApplicationKind, ObjectKind
        from keyreeve.plaintext import Plaintext

        vault, password = self.client.credentials, secrets.token_urlsafe(12)
        vault.objects.create(self.array, SERVER, ObjectKind.APPLICATION_SERVER, domain=DOMAIN)
        vault.objects.create(self.array, APPLICATION, ObjectKind.APPLICATION, application_kind=ApplicationKind.WINDOWS)
        vault.entries.create(self.array, OWNER, f".../_wns/{DOMAIN}", "ada", Plaintext.of(password))
        return password

    def resolved_by_the_member(self) -> str:
        """The password that the member gets for the launch."""
        return _secret(self.member.credentials.resolution.resolve(self.launch))

    def rotate(self) -> int:
        """Give the array a new key; the number of values that were encrypted again. Raises `StartFailed`."""
        from keyreeve.errors import StartFailed
        from keyreeve.operation_values import OperationState

        vault = self.client.credentials
        last = begun = vault.keys.rotate(self.array)
        for operation in vault.operations.watch(begun.name):
            last = operation
        if last.state is not OperationState.SUCCEEDED:
            raise StartFailed(f"{last.method}: {last.error_reason}: {last.error_message}")
        return last.done

    def explained(self) -> str:
        """The rule that decides the launch, and by what."""
        decisive = self.client.credentials.resolution.explain(self.launch).steps[-1]
        return f"{decisive.rule}: {decisive.attribute} of {decisive.object_name} is {decisive.value}"

    def refused(self, seconds: float) -> tuple[str, float]:
        """The reason for which the vault refuses the member, and after what time; empty: it does not within `seconds`."""
        from keyreeve.errors import KeyreeveError

        began = time.monotonic()
        while (taken := time.monotonic() - began) < seconds:
            try:
                self.resolved_by_the_member()
            except KeyreeveError as refusal:
                return refusal.reason, round(taken, 2)
            time.sleep(_POLL_SECONDS)
        return "", round(seconds, 2)


def _secret(resolved: "Resolved") -> str:
    from keyreeve.errors import StartFailed
    from keyreeve.launch_values import Credential

    if not isinstance(resolved, Credential):
        raise StartFailed(f"the launch was answered with {type(resolved).__name__} and no password")
    return resolved.secret.text()
