"""A look whether membership knows the array and the server that something was stored for."""

from typing import TYPE_CHECKING

from keyreeve.cli.exit_codes import print_error
from keyreeve.errors import ArrayNotFound, KeyreeveError, MemberNotFound

if TYPE_CHECKING:
    from keyreeve import Client

SECONDS = 2.0
"""Time limit of each question: what was stored is stored, whatever membership says."""


def note_unknown(client: "Client", array: str, server: str = "") -> None:
    """Print a note on standard error when membership does not know the place; none when it does not answer."""
    name = array.removeprefix("arrays/")
    try:
        client.membership.arrays.get(name, timeout=SECONDS)
        if not server:
            return
        found = client.membership.members.get(server, timeout=SECONDS).array.removeprefix("arrays/")
    except ArrayNotFound:
        print_error(f"note: membership knows no array {name!a}; it was stored nevertheless (`keyreeve array list`)")
    except MemberNotFound:
        print_error(f"note: membership knows no server {server!a}; it was stored nevertheless (`keyreeve member list`)")
    except KeyreeveError:
        return
    else:
        if found != name:
            print_error(
                f"note: the server {server!a} is in the array {found!a}, not in {name!a}; it was stored nevertheless"
            )
