"""ResolutionService: access rules, and messages to values and back."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from keyreeve.credentials.v1 import resolution_service_pb2 as pb
from keyreeve.identity import OPERATOR_ROLES, Role
from keyreeve.plaintext import Plaintext
from keyreeve_chassis.guard.access import AccessRule, AccessRules
from keyreeve_chassis.guard.call import Call, caller_of, chosen, invalid, number_of
from keyreeve_chassis.idempotency.mutation import Mutations
from keyreeve_credentials.entries.names import ObjectName, parse_owner
from keyreeve_credentials.entries.ports import ROW, Entry
from keyreeve_credentials.entries.request_secrets import SecretMasking
from keyreeve_credentials.entries.servicer import array_of, deleted_text, entry_of, row_text, tell_of
from keyreeve_credentials.launch_settings.service import parse_server
from keyreeve_credentials.objects.service import parse_object_name
from keyreeve_credentials.policies.checking import AccessCheck, Tell
from keyreeve_credentials.policies.rules import LAUNCH, LIST
from keyreeve_credentials.resolution.dialog import Answer, Box, Dialog
from keyreeve_credentials.resolution.launch import EntryKind
from keyreeve_credentials.resolution.outcomes import Outcome, Simple
from keyreeve_credentials.resolution.ports import LaunchRequest
from keyreeve_credentials.resolution.rules import Credential, FailureReason, Finding, LaunchFailure, Result, Step
from keyreeve_credentials.resolution.service import Resolution, Saved

_SERVICE = "/keyreeve.credentials.v1.ResolutionService/"
_LAUNCHERS = frozenset({Role.ADMIN, Role.OPERATOR, Role.MEMBER, Role.WORKLOAD})
_WHAT = ("launch.parent", "launch.owner", "launch.application", "launch.application_server")

ACCESS: AccessRules = {
    _SERVICE + "ResolveCredential": AccessRule(_LAUNCHERS, records=_WHAT, reveals=True),
    _SERVICE + "ExplainResolution": AccessRule(OPERATOR_ROLES | {Role.MEMBER}, records=_WHAT),
    _SERVICE + "SaveDialogAnswer": AccessRule(_LAUNCHERS, forwarded=True, records=_WHAT),
    _SERVICE + "ReportOutcome": AccessRule(_LAUNCHERS, forwarded=True, records=(*_WHAT, "outcome", "entry")),
}
_CREDENTIAL_KINDS: Final = {
    pb.CREDENTIAL_KIND_PASSWORD: EntryKind.PASSWORD,
    pb.CREDENTIAL_KIND_LOGIN_PASSWORD: EntryKind.LOGIN_PASSWORD,
    pb.CREDENTIAL_KIND_SMART_CARD: EntryKind.SMART_CARD,
}
_FAILURES: Final = {
    pb.LAUNCH_FAILURE_REASON_NO_CREDENTIAL: FailureReason.NO_CREDENTIAL,
    pb.LAUNCH_FAILURE_REASON_CREDENTIAL_REFUSED: FailureReason.CREDENTIAL_REFUSED,
    pb.LAUNCH_FAILURE_REASON_PASSWORD_EXPIRED: FailureReason.PASSWORD_EXPIRED,
}
_FINDINGS: Final = {
    pb.RULE_FINDING_UNSET: Finding.UNSET,
    pb.RULE_FINDING_NO_ENTRY: Finding.NO_ENTRY,
    pb.RULE_FINDING_OFF: Finding.OFF,
    pb.RULE_FINDING_DECIDED: Finding.DECIDED,
}
_OUTCOMES: Final = {
    pb.LAUNCH_OUTCOME_ACCEPTED: Outcome.ACCEPTED,
    pb.LAUNCH_OUTCOME_REFUSED: Outcome.REFUSED,
    pb.LAUNCH_OUTCOME_EXPIRED: Outcome.EXPIRED,
    pb.LAUNCH_OUTCOME_NETWORK_LEVEL_AUTHENTICATION_FAILED: Outcome.NETWORK_LEVEL_AUTHENTICATION_FAILED,
}
_STEPS: Final = {
    pb.LAUNCH_STEP_CONTINUE: Simple.CONTINUE,
    pb.LAUNCH_STEP_TERMINAL: Simple.TERMINAL,
    pb.LAUNCH_STEP_RETRY_WITH_SHIFT: Simple.RETRY_WITH_SHIFT,
}


def launch_request(message: pb.Launch, call: Call, *, login: bool = False) -> LaunchRequest:
    """Check the names of a launch; those of a login need no application. Raises `FieldInvalid`."""
    caller, server = caller_of(call), parse_server(message.server, "launch.server")
    if not server and caller.role is Role.MEMBER:
        server = caller.id.path[-1]
    owner, profile = parse_owner(message.owner, "launch.owner"), message.user_profile
    return LaunchRequest(
        array_of(message.parent, "launch.parent"),
        owner,
        owner if login else parse_object_name(message.application, "launch.application"),
        owner if login else parse_object_name(message.application_server, "launch.application_server", server=True),
        parse_object_name(profile, "launch.user_profile") if profile else None,
        server,
        message.shift_click,
        message.third_party_authenticated,
    )


def _credential(result: Credential, entry: Entry) -> pb.Credential:
    return pb.Credential(
        entry=entry.name,
        entry_version=entry.version,
        kind=number_of(_CREDENTIAL_KINDS, result.entry.kind),
        user_name=entry.user_name,
        domain=result.domain,
        resource=entry.resource.text,
    )


def _dialog(dialog: Dialog) -> pb.AuthenticationDialog:
    return pb.AuthenticationDialog(
        problem=dialog.problem,
        has_domain=dialog.has_domain,
        domain=dialog.domain,
        save_password=_box(dialog.save_password),
        always_smart_card=None if dialog.always_smart_card is None else _box(dialog.always_smart_card),
    )


def _box(box: Box) -> pb.CheckBox:
    return pb.CheckBox(checked=box.checked, locked=box.locked)


def _result(result: Result, entry: Entry | None) -> dict[str, Any]:
    match result:
        case Credential():
            assert entry is not None
            return {"credential": _credential(result, entry)}
        case LaunchFailure(reason):
            return {"failure": number_of(_FAILURES, reason)}
        case Dialog():
            return {"dialog": _dialog(result)}


def _step(step: Step) -> pb.ResolutionStep:
    return pb.ResolutionStep(
        rule=step.rule,
        object_name=step.object,
        attribute=step.attribute,
        value=step.value,
        finding=number_of(_FINDINGS, step.finding),
    )


def _saved(saved: Saved) -> pb.SaveDialogAnswerResponse:
    entry, deleted = saved.entry, saved.deleted
    response = pb.SaveDialogAnswerResponse(reason=saved.reason, deleted_entry="" if deleted is None else deleted.name)
    if entry is not None:
        response.entry, response.entry_version = entry.name, entry.version
        response.encryption, response.row_sha256 = entry.encryption, entry.row_sha256()
    return response


def _written(response: pb.SaveDialogAnswerResponse) -> list[tuple[str, str]]:
    """What the audit record says of the row: the scrubber compares the table with it."""
    told = [(ROW, deleted_text(response.deleted_entry))] if response.deleted_entry else []
    if response.entry:
        told.append((ROW, row_text(response.entry, response.encryption, response.row_sha256)))
    return told


@dataclass(frozen=True)
class ResolutionServicer:
    """Serves ResolutionService."""

    resolution: Resolution
    access: AccessCheck
    mutations: Mutations[Any]
    prepare: Callable[[str], Awaitable[None]]
    """Makes the first key of an array (`keys.vault.Vault.prepare`)."""
    masking: SecretMasking

    async def ResolveCredential(self, request: pb.ResolveCredentialRequest, call: Call) -> pb.ResolveCredentialResponse:
        launch = self._allowed(request.launch, call, LAUNCH, tell_denied=tell_of(call))
        resolved = await self.resolution.resolve(launch)
        response = pb.ResolveCredentialResponse(**_result(resolved.decision.result, resolved.entry))
        entry = resolved.entry
        if entry is not None:
            self.access.check_read(
                caller_of(call), entry.array_id, entry.owner.text, entry.resource.text, LAUNCH, tell=tell_of(call)
            )
            response.secret = (await self.resolution.secret_of(entry, was_last=resolved.was_last)).reveal()
        return response

    async def ExplainResolution(self, request: pb.ExplainResolutionRequest, call: Call) -> pb.ExplainResolutionResponse:
        launch = self._allowed(request.launch, call, LIST)
        resolved, changes = await self.resolution.explain(launch)
        return pb.ExplainResolutionResponse(
            **_result(resolved.decision.result, resolved.entry),
            steps=[_step(step) for step in resolved.decision.steps],
            changes=[pb.ResolutionChange(change=change.text, result=change.result) for change in changes],
        )

    async def SaveDialogAnswer(self, request: pb.SaveDialogAnswerRequest, call: Call) -> pb.SaveDialogAnswerResponse:
        kind = request.WhichOneof("answer")
        if kind is None:
            raise invalid("answer", "one is required")
        launch = self._allowed(request.launch, call, LAUNCH, login=kind == "login")
        secret = Plaintext(request.secret)
        dialog, user_name = request.dialog, request.login.user_name
        answer = Answer(dialog.user_name, dialog.domain, dialog.save_password, dialog.always_smart_card)

        def may_launch(resource: ObjectName) -> None:
            self.access.check(caller_of(call), launch.array_id, launch.owner.text, resource.text, LAUNCH)

        def act(tx: Any) -> pb.SaveDialogAnswerResponse:  # noqa: ANN401 - the service's transaction
            if kind == "login":
                return _saved(self.resolution.save_login(tx, launch, user_name, secret))
            return _saved(self.resolution.save_answer(tx, launch, answer, secret, may_launch))

        await self.prepare(launch.array_id)
        return await self.mutations(call, self.masking.masked(request), act, _written)

    async def ReportOutcome(self, request: pb.ReportOutcomeRequest, call: Call) -> pb.ReportOutcomeResponse:
        launch = self._allowed(request.launch, call, LAUNCH)
        outcome = chosen(_OUTCOMES, request.outcome, "outcome")
        used = None
        if request.entry:
            array_id, entry_uid = entry_of(request.entry, "entry")
            if array_id != launch.array_id:
                raise invalid("entry", "an entry of the launch's array is required")
            used = (entry_uid, request.entry_version)

        def act(tx: Any) -> pb.ReportOutcomeResponse:  # noqa: ANN401
            reaction, deleted = self.resolution.report(tx, launch, outcome, used)
            response = pb.ReportOutcomeResponse(discarded=deleted is not None, reason=reaction.reason)
            match reaction.next:
                case Simple():
                    response.step = number_of(_STEPS, reaction.next)
                case LaunchFailure(reason):
                    response.failure = number_of(_FAILURES, reason)
                case Dialog():
                    response.dialog.CopyFrom(_dialog(reaction.next))
            return response

        return await self.mutations(
            call, request, act, lambda response: [(ROW, deleted_text(request.entry))] if response.discarded else []
        )

    def _allowed(
        self,
        message: pb.Launch,
        call: Call,
        purpose: str,
        *,
        login: bool = False,
        tell_denied: Tell = lambda _f, _v: None,
    ) -> LaunchRequest:
        launch = launch_request(message, call, login=login)
        resource = "" if login else launch.application_server.text
        self.access.check(
            caller_of(call), launch.array_id, launch.owner.text, resource, purpose, tell_denied=tell_denied
        )
        return launch
