"""`tarantella object new_host|new_person|new_windowsapp|new_xapp|new_charapp`."""

from collections.abc import Awaitable, Callable

from keyreeve_gateway.grammar.model import Option, Source, Verb
from keyreeve_gateway.invocation import Invocation
from keyreeve_gateway.tarantella.objects.attributes import AUTH, DOMAIN, NAME, NETWORK, UNREAD, attributes_of


def _creator(kind: str, application: str = "") -> Callable[[Invocation], Awaitable[None]]:
    async def create_object(call: Invocation) -> None:
        """Create an object of one kind."""
        from keyreeve.launch_values import ApplicationKind, ObjectKind

        await call.services.credentials.objects.create(
            await call.array(),
            call.parsed.text("--name"),
            ObjectKind(kind),
            application_kind=ApplicationKind(application) if application else None,
            **attributes_of(call.parsed),
        )

    return create_object


def _verb(name: str, what: str, create: Callable[[Invocation], Awaitable[None]], *options: Option) -> Verb:
    return Verb(
        name,
        f"Creates {what}.",
        create,
        (NAME, *options),
        batch=True,
        rpcs=("MemberService/GetMember", "ObjectService/CreateObject"),
        differences=(UNREAD,),
        source=Source.UNDOCUMENTED,
    )


VERBS = (
    _verb("new_charapp", "a character application", _creator("application", "character")),
    _verb("new_host", "an application server", _creator("application-server"), DOMAIN, AUTH),
    _verb("new_person", "a user profile", _creator("user-profile"), DOMAIN),
    _verb("new_windowsapp", "a Windows application", _creator("application", "windows"), DOMAIN, NETWORK),
    _verb("new_xapp", "an X application", _creator("application", "x")),
)
