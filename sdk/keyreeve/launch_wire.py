"""Translation between messages about launches and the values of the SDK."""

from datetime import UTC
from typing import Any, Final

from keyreeve import launch_values as values
from keyreeve.credentials.v1 import launch_setting_service_pb2 as setting_pb
from keyreeve.credentials.v1 import object_service_pb2 as object_pb
from keyreeve.credentials.v1 import resolution_service_pb2 as resolution_pb
from keyreeve.plaintext import Plaintext
from keyreeve.wire_fields import from_number, resource_name, to_number

OBJECT_KINDS: Final = {
    values.ObjectKind.APPLICATION_SERVER: object_pb.OBJECT_KIND_APPLICATION_SERVER,
    values.ObjectKind.DYNAMIC_APPLICATION_SERVER: object_pb.OBJECT_KIND_DYNAMIC_APPLICATION_SERVER,
    values.ObjectKind.APPLICATION: object_pb.OBJECT_KIND_APPLICATION,
    values.ObjectKind.USER_PROFILE: object_pb.OBJECT_KIND_USER_PROFILE,
}
APPLICATION_KINDS: Final = {
    values.ApplicationKind.WINDOWS: object_pb.APPLICATION_KIND_WINDOWS,
    values.ApplicationKind.X: object_pb.APPLICATION_KIND_X,
    values.ApplicationKind.CHARACTER: object_pb.APPLICATION_KIND_CHARACTER,
}
USAGES: Final = {
    values.PasswordCacheUsage.DEFAULT: object_pb.PASSWORD_CACHE_USAGE_UNSPECIFIED,
    values.PasswordCacheUsage.TRY: object_pb.PASSWORD_CACHE_USAGE_TRY,
    values.PasswordCacheUsage.NEVER: object_pb.PASSWORD_CACHE_USAGE_NEVER,
}
DISPLAYS: Final = {
    values.DialogDisplay.USER: setting_pb.DIALOG_DISPLAY_USER,
    values.DialogDisplay.SYSTEM: setting_pb.DIALOG_DISPLAY_SYSTEM,
    values.DialogDisplay.NONE: setting_pb.DIALOG_DISPLAY_NONE,
}
ACTIONS: Final = {
    values.ExpiredPasswordAction.DIALOG: setting_pb.EXPIRED_PASSWORD_ACTION_DIALOG,
    values.ExpiredPasswordAction.MANUAL: setting_pb.EXPIRED_PASSWORD_ACTION_MANUAL,
    values.ExpiredPasswordAction.NONE: setting_pb.EXPIRED_PASSWORD_ACTION_NONE,
}
CREDENTIAL_KINDS: Final = {
    values.CredentialKind.PASSWORD: resolution_pb.CREDENTIAL_KIND_PASSWORD,
    values.CredentialKind.LOGIN_PASSWORD: resolution_pb.CREDENTIAL_KIND_LOGIN_PASSWORD,
    values.CredentialKind.SMART_CARD: resolution_pb.CREDENTIAL_KIND_SMART_CARD,
}
FAILURES: Final = {
    values.LaunchFailure.NO_CREDENTIAL: resolution_pb.LAUNCH_FAILURE_REASON_NO_CREDENTIAL,
    values.LaunchFailure.CREDENTIAL_REFUSED: resolution_pb.LAUNCH_FAILURE_REASON_CREDENTIAL_REFUSED,
    values.LaunchFailure.PASSWORD_EXPIRED: resolution_pb.LAUNCH_FAILURE_REASON_PASSWORD_EXPIRED,
}
FINDINGS: Final = {
    values.RuleFinding.UNSET: resolution_pb.RULE_FINDING_UNSET,
    values.RuleFinding.NO_ENTRY: resolution_pb.RULE_FINDING_NO_ENTRY,
    values.RuleFinding.OFF: resolution_pb.RULE_FINDING_OFF,
    values.RuleFinding.DECIDED: resolution_pb.RULE_FINDING_DECIDED,
}
OUTCOMES: Final = {
    values.LaunchOutcome.ACCEPTED: resolution_pb.LAUNCH_OUTCOME_ACCEPTED,
    values.LaunchOutcome.REFUSED: resolution_pb.LAUNCH_OUTCOME_REFUSED,
    values.LaunchOutcome.EXPIRED: resolution_pb.LAUNCH_OUTCOME_EXPIRED,
    values.LaunchOutcome.NETWORK_LEVEL_AUTHENTICATION_FAILED: (
        resolution_pb.LAUNCH_OUTCOME_NETWORK_LEVEL_AUTHENTICATION_FAILED
    ),
}
STEPS: Final = {
    values.LaunchStep.CONTINUE: resolution_pb.LAUNCH_STEP_CONTINUE,
    values.LaunchStep.TERMINAL: resolution_pb.LAUNCH_STEP_TERMINAL,
    values.LaunchStep.RETRY_WITH_SHIFT: resolution_pb.LAUNCH_STEP_RETRY_WITH_SHIFT,
}
SETTINGS: Final = tuple(field.name for field in setting_pb.LaunchSettings.DESCRIPTOR.fields)


def from_object(message: object_pb.Object) -> values.LaunchObject:
    """Translate an object."""
    return values.LaunchObject(
        array=message.parent,
        name=message.object_name,
        kind=from_number(OBJECT_KINDS, message.kind),
        domain=message.domain,
        password_cache_usage=from_number(USAGES, message.password_cache_usage),
        application_kind=(
            from_number(APPLICATION_KINDS, message.application_kind) if message.application_kind else None
        ),
        enhanced_network_security=message.enhanced_network_security,
        version=message.version,
        created_at=message.create_time.ToDatetime(UTC),
        updated_at=message.update_time.ToDatetime(UTC),
    )


def to_settings(settings: values.LaunchSettings) -> setting_pb.LaunchSettings:
    """Translate settings; those that are None are left out."""
    found: dict[str, Any] = {name: getattr(settings, name) for name in SETTINGS}
    if settings.show_dialog is not None:
        found["show_dialog"] = to_number(DISPLAYS, settings.show_dialog, "show_dialog")
    if settings.expired_password is not None:
        found["expired_password"] = to_number(ACTIONS, settings.expired_password, "expired_password")
    return setting_pb.LaunchSettings(**{name: value for name, value in found.items() if value is not None})


def from_settings(message: setting_pb.LaunchSettings) -> values.LaunchSettings:
    """Translate settings."""
    found: dict[str, Any] = {
        name: getattr(message, name)
        for name in SETTINGS
        if name not in {"show_dialog", "expired_password"} and message.HasField(name)  # type: ignore[arg-type]
    }
    if message.show_dialog:
        found["show_dialog"] = from_number(DISPLAYS, message.show_dialog)
    if message.expired_password:
        found["expired_password"] = from_number(ACTIONS, message.expired_password)
    return values.LaunchSettings(**found)


def from_view(message: setting_pb.LaunchSettingsView) -> values.LaunchSettingsView:
    """Translate the settings of an array or a server."""
    return values.LaunchSettingsView(
        array=message.parent,
        server=message.server,
        own=from_settings(message.own),
        effective=from_settings(message.effective),
        from_array=frozenset(message.from_array),
        from_server=frozenset(message.from_server),
    )


def to_launch(launch: values.Launch) -> resolution_pb.Launch:
    """Translate a launch."""
    return resolution_pb.Launch(
        parent=resource_name("arrays", launch.array),
        owner=launch.owner,
        application=launch.application,
        application_server=launch.application_server,
        user_profile=launch.user_profile,
        server=launch.server,
        shift_click=launch.shift_click,
        third_party_authenticated=launch.third_party_authenticated,
    )


def from_resolved(
    message: resolution_pb.ResolveCredentialResponse | resolution_pb.ExplainResolutionResponse, secret: bytes = b""
) -> values.Resolved:
    """Translate a decision."""
    match message.WhichOneof("result"):
        case "credential":
            found = message.credential
            return values.Credential(
                entry=found.entry,
                entry_version=found.entry_version,
                kind=from_number(CREDENTIAL_KINDS, found.kind),
                user_name=found.user_name,
                domain=found.domain,
                resource=found.resource,
                secret=Plaintext(secret),
            )
        case "dialog":
            return from_dialog(message.dialog)
    return from_number(FAILURES, message.failure)


def from_dialog(message: resolution_pb.AuthenticationDialog) -> values.AuthenticationDialog:
    """Translate a dialog."""
    smart_card = message.always_smart_card if message.HasField("always_smart_card") else None
    return values.AuthenticationDialog(
        problem=message.problem,
        has_domain=message.has_domain,
        domain=message.domain,
        save_password=values.CheckBox(message.save_password.checked, message.save_password.locked),
        always_smart_card=None if smart_card is None else values.CheckBox(smart_card.checked, smart_card.locked),
    )


def from_explanation(message: resolution_pb.ExplainResolutionResponse) -> values.Explanation:
    """Translate an explanation."""
    steps = (
        values.ResolutionStep(
            step.rule, step.object_name, step.attribute, step.value, from_number(FINDINGS, step.finding)
        )
        for step in message.steps
    )
    changes = tuple((change.change, change.result) for change in message.changes)
    return values.Explanation(from_resolved(message), tuple(steps), changes)


def from_saved(message: resolution_pb.SaveDialogAnswerResponse) -> values.SavedAnswer:
    """Translate what an answer changed."""
    return values.SavedAnswer(message.entry, message.entry_version, message.reason, message.deleted_entry)


def from_reaction(message: resolution_pb.ReportOutcomeResponse) -> values.Reaction:
    """Translate what follows from an outcome."""
    following: values.LaunchStep | values.AuthenticationDialog | values.LaunchFailure
    match message.WhichOneof("next"):
        case "dialog":
            following = from_dialog(message.dialog)
        case "failure":
            following = from_number(FAILURES, message.failure)
        case _:
            following = from_number(STEPS, message.step)
    return values.Reaction(following, message.discarded, message.reason)
