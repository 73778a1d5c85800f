"""Which credential a launch uses, and why."""

from keyreeve import launch_wire, wire
from keyreeve._async.calls import Caller
from keyreeve.credentials.v1 import resolution_service_pb2 as pb
from keyreeve.launch_values import Explanation, Launch, LaunchOutcome, Reaction, Resolved, SavedAnswer
from keyreeve.plaintext import Plaintext
from keyreeve.request_ids import new_request_id

_SERVICE = "/keyreeve.credentials.v1.ResolutionService"


class ResolutionClient:
    """Decisions about launches; reached as `Client.credentials.resolution`.

    Every method raises `keyreeve.errors` and takes a `timeout` in seconds over all its attempts.
    """

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def resolve(self, launch: Launch, *, timeout: float | None = None) -> Resolved:
        """Decide what a launch logs in with; the secret of a credential has to be asked for, with `secret.reveal()`."""
        request = pb.ResolveCredentialRequest(launch=launch_wire.to_launch(launch))
        method = f"{_SERVICE}/ResolveCredential"
        message = await self._caller.unary(method, request, pb.ResolveCredentialResponse, timeout)
        return launch_wire.from_resolved(message, message.secret)

    async def explain(self, launch: Launch, *, timeout: float | None = None) -> Explanation:
        """Explain the decision about a launch, without the secret."""
        request = pb.ExplainResolutionRequest(launch=launch_wire.to_launch(launch))
        method = f"{_SERVICE}/ExplainResolution"
        return launch_wire.from_explanation(
            await self._caller.unary(method, request, pb.ExplainResolutionResponse, timeout)
        )

    async def save_answer(
        self,
        launch: Launch,
        user_name: str,
        secret: Plaintext | None = None,
        *,
        domain: str = "",
        save_password: bool = False,
        always_smart_card: bool = False,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> SavedAnswer:
        """Save what a user gave in the authentication dialog, as far as the boxes say so."""
        answer = pb.DialogAnswer(
            user_name=user_name, domain=domain, save_password=save_password, always_smart_card=always_smart_card
        )
        request = pb.SaveDialogAnswerRequest(
            launch=launch_wire.to_launch(launch),
            dialog=answer,
            secret=b"" if secret is None else secret.reveal(),
            request_id=request_id or new_request_id(),
        )
        method = f"{_SERVICE}/SaveDialogAnswer"
        return launch_wire.from_saved(await self._caller.unary(method, request, pb.SaveDialogAnswerResponse, timeout))

    async def save_login(
        self,
        array: str,
        owner: str,
        user_name: str,
        secret: Plaintext,
        *,
        user_profile: str = "",
        server: str = "",
        third_party_authenticated: bool = False,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> SavedAnswer:
        """Save what a user gave when logging in to the array, as far as the launch settings say so."""
        launch = pb.Launch(
            parent=wire.resource_name("arrays", array),
            owner=owner,
            user_profile=user_profile,
            server=server,
            third_party_authenticated=third_party_authenticated,
        )
        request = pb.SaveDialogAnswerRequest(
            launch=launch,
            login=pb.LoginAnswer(user_name=user_name),
            secret=secret.reveal(),
            request_id=request_id or new_request_id(),
        )
        method = f"{_SERVICE}/SaveDialogAnswer"
        return launch_wire.from_saved(await self._caller.unary(method, request, pb.SaveDialogAnswerResponse, timeout))

    async def report(
        self,
        launch: Launch,
        outcome: LaunchOutcome,
        *,
        entry: str = "",
        entry_version: int = 0,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> Reaction:
        """Report what an application server answered; the entry is that of the credential, if one was used."""
        request = pb.ReportOutcomeRequest(
            launch=launch_wire.to_launch(launch),
            outcome=wire.to_number(launch_wire.OUTCOMES, outcome, "outcome"),
            entry=entry,
            entry_version=entry_version,
            request_id=request_id or new_request_id(),
        )
        method = f"{_SERVICE}/ReportOutcome"
        return launch_wire.from_reaction(await self._caller.unary(method, request, pb.ReportOutcomeResponse, timeout))
