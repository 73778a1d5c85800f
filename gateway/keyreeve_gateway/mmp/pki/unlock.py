"""`pki unlock`."""

from keyreeve_gateway.grammar.model import Argument, Difference, Verb
from keyreeve_gateway.invocation import Invocation
from keyreeve_gateway.mmp.pki.spaces import SILENT, passphrase_of, space_of


async def unlock_key(call: Invocation) -> None:
    """Replace a locked key by the same key without a passphrase."""
    name, space = call.parsed.argument(0), await space_of(call)
    passphrase = await passphrase_of(call, call.settings.unlock_prompt.replace("{file}", name))
    await call.services.credentials.files.unlock(space, name, passphrase)
    call.console.say(f"Unlocked {name}")


VERB = Verb(
    "unlock",
    "Replaces a key that is locked with a passphrase by the same key without one.",
    unlock_key,
    (Argument("key", "Name of the key file."),),
    rpcs=("MemberService/GetMember", "KeyFileService/UnlockKey"),
    differences=(Difference("The prompt, which is a setting, and the line that is printed.", SILENT),),
)
