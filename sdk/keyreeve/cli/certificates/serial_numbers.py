"""Serial numbers as programs spell them: hexadecimal, with colons, decimal, or in the certificate's file."""

import re
from pathlib import Path

import typer

_DIGITS = 32
_HEXADECIMAL = re.compile(r"[0-9a-f]{1,40}\Z")
_DECIMAL = re.compile(r"[0-9]{33,48}\Z")


def read_serials(text: str) -> list[str]:
    """Read a serial number, or those of the certificates in a file, as the ledger has them.

    Raises `typer.BadParameter`, `FileUnusable`.
    """
    plain = text.strip().lower().removeprefix("serial=").removeprefix("certificates/").removeprefix("0x")
    plain = plain.replace(":", "").replace(" ", "")
    if _DECIMAL.match(plain):
        return [f"{int(plain):0{_DIGITS}x}"]
    if _HEXADECIMAL.match(plain) and not Path(text).is_file():
        return [plain.rjust(_DIGITS, "0")]
    if text == "-" or Path(text).is_file():
        from keyreeve.cli.certificates.inspection import serials_in

        return serials_in(Path(text))
    raise typer.BadParameter(
        f"{text!r} is neither a serial number (hexadecimal, with or without colons, or decimal) nor a file",
        param_hint="SERIAL",
    )


def one_serial(text: str) -> str:
    """Read one serial number; of a file, that of its first certificate."""
    return read_serials(text)[0]
