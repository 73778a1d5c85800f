"""`keyreeve cert renew` and `keyreeve renew-daemon`."""

import shlex
import signal
import subprocess
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from keyreeve.cli.calling import control_plane, load_context, read_lifetime
from keyreeve.cli.certificates.certificate_commands import PasswordFile, signed_fields
from keyreeve.cli.exit_codes import Exit, error_text, print_error
from keyreeve.cli.options import ContextFile, Output, Quiet, shown
from keyreeve.cli.printing import Format, Printer, until
from keyreeve.errors import KeyreeveError

if TYPE_CHECKING:
    from keyreeve.values import SignedCertificate

Then = Annotated[
    str | None,
    typer.Option(
        "--then", metavar="COMMAND", help="Program to run after a renewal, such as 'nginx -s reload'; no shell."
    ),
]


def add_to(certificates: typer.Typer) -> None:
    """Add the renewal command to `keyreeve cert`."""
    certificates.command("renew")(renew_certificate)


def renew_certificate(
    place: Annotated[
        Path | None,
        typer.Argument(
            help="Directory of `cert issue`, a certificate file, or a file with both. Default: your own certificate."
        ),
    ] = None,
    *,
    key: Annotated[Path | None, typer.Option("--key", help="Private key of a certificate FILE.")] = None,
    password_file: PasswordFile = None,
    only_if_due: Annotated[
        bool, typer.Option("--only-if-due", help="Do nothing before two thirds of its lifetime have passed.")
    ] = False,
    then: Then = None,
    device_key: Annotated[
        Path | None,
        typer.Option(
            "--device-key",
            metavar="FILE",
            help="Key file of a security key (ssh-keygen -t ed25519-sk) in your record; it replaces an invitation.",
        ),
    ] = None,
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> int | None:
    """Renew a certificate with a new key, in the same files.

    Names and profile stay the same; so do owner, group, mode and form of each file.

    After an interruption it can be repeated: the new key is stored before the call.
    """
    from keyreeve.cli.certificates.certificate_files import read_password
    from keyreeve.cli.certificates.device_touch import touch_of
    from keyreeve.cli.certificates.renewing import Pair, complete_renewal, due_at, locked, renew_pair

    loaded = load_context(context)
    pair = Pair.find(place, key, loaded)
    password = None if password_file is None else read_password(password_file)
    printer = Printer(output, quiet=quiet)
    good = f"{printer.palette.green}✔{printer.palette.plain}"
    files = {"key": str(pair.key), "file": str(pair.certificate)}
    signed: SignedCertificate | None = None
    with locked(pair):
        if not complete_renewal(pair, loaded, password):
            due = due_at(pair)
            if only_if_due and datetime.now(UTC) < due:
                text = f"{good} {shown(pair.certificate)}: not due before {until(due, datetime.now(UTC))}"
                printer.answer(files | {"renewed": False, "due_at": due.isoformat()}, text)
                return None
            with control_plane(context, renew=not pair.is_own) as client:
                signed = renew_pair(client, pair, None if device_key is None else touch_of(device_key), password)
    if signed is None:
        text = f"{good} {shown(pair.certificate)}: an interrupted renewal has been completed"
        printer.answer(files | {"renewed": True}, text)
    else:
        text = f"{good} {shown(pair.certificate)}: serial {signed.serial}, until {until(signed.not_after, datetime.now(UTC))}"
        printer.answer(signed_fields(signed) | files | {"renewed": True}, text, brief=str(pair.certificate))
    return None if then is None else run_then(then)


def run_then(command: str) -> int | None:
    """Run a program without a shell. Returns the exit code of this command when it fails."""
    words = shlex.split(command)
    if not words:
        return None
    try:
        done = subprocess.run(words, check=False)  # noqa: S603  # the user's own command, and no shell
    except OSError as problem:
        print_error(f"error: the certificate is renewed, but {words[0]} cannot be run: {problem.strerror}")
        return Exit.REFUSED
    if done.returncode != 0:
        print_error(f"error: the certificate is renewed, but `{command}` has ended with {done.returncode}")
        return Exit.REFUSED
    return None


def renew_daemon(
    places: Annotated[
        list[Path],
        typer.Argument(metavar="PLACE...", help="Directories of `cert issue`, or files with certificate and key."),
    ],
    *,
    interval: Annotated[str, typer.Option("--interval", help="Time between two looks, such as 1h.")] = "1h",
    password_file: PasswordFile = None,
    then: Then = None,
    context: ContextFile = None,
) -> None:
    """Renew certificates when they are due, until the process is terminated.

    What fails is tried again at the next look. `keyreeve cert renew --only-if-due` in a timer does the same without a
    running process (docs/deployment.md).
    """
    pause = read_lifetime(interval)
    assert pause is not None
    load_context(context)
    ended = threading.Event()
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, lambda *_: ended.set())

    def renew(place: Path) -> None:
        renew_certificate(place, password_file=password_file, only_if_due=True, then=then, context=context)

    def wait(span: timedelta) -> bool:
        return ended.wait(span.total_seconds())

    keep_renewed(places, renew, wait, pause)


def keep_renewed(
    places: Sequence[Path], renew: Callable[[Path], None], wait: Callable[[timedelta], bool], pause: timedelta
) -> None:
    """Renew what is due again and again, until `wait` says that the process is to end."""
    while True:
        for place in places:
            try:
                renew(place)
            except KeyreeveError as failure:
                print_error(f"{place}: {error_text(failure)}")
            except typer.BadParameter as problem:
                print_error(f"{place}: {problem.format_message()}")
        if wait(pause):
            return
