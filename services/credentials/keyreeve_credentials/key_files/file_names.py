"""Names of files: a flat space, with basenames for the files that belong together.

basename = 1*64(ALPHA / DIGIT / "-" / "_")
file     = basename *("." 1*(ALPHA / DIGIT / "-" / "_"))     ; at most 128 characters
"""

import re
from collections.abc import Collection

from keyreeve_credentials.key_documents.attributes import refused

_BASENAME = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
_MOST_CHARACTERS = 128
_FILE = re.compile(rf"(?=.{{1,{_MOST_CHARACTERS}}}\Z)[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\Z")

KEY, REQUEST, CERTIFICATE, BUNDLE = ".key", ".csr", ".crt", "-bundle.crt"
"""What is appended to a basename."""


def parse_basename(text: str, field: str = "basename") -> str:
    """Check a basename. Raises `FieldInvalid`."""
    if not _BASENAME.match(text):
        raise refused(field, "1 to 64 letters, digits, '-' and '_' are required, without an extension")
    return text


def parse_file_name(text: str, field: str = "name") -> str:
    """Check the name of a file. Raises `FieldInvalid`."""
    if not _FILE.match(text):
        raise refused(field, "at most 128 letters, digits, '-', '_' and '.' are required, with no '.' at an end")
    return text


def basename_of(name: str) -> str:
    """Return a file's name up to its first extension."""
    return name.partition(".")[0]


def restorable_name(name: str, number: int) -> str:
    """Return the name under which a replaced file is kept: `web.key` as `web-replaced-1.key`. Long names are cut."""
    base, dot, extension = name.rpartition(".") if "." in name else (name, "", "")
    end = f"-replaced-{number}{dot}{extension}"
    if len(end) >= _MOST_CHARACTERS:
        base, end = name, f"-replaced-{number}"
    return base[: _MOST_CHARACTERS - len(end)].rstrip(".") + end


def free_number(names: Collection[str], taken: Collection[str]) -> int:
    """Return the lowest number under which none of the files has been kept yet."""
    number = 1
    while any(restorable_name(name, number) in taken for name in names):
        number += 1
    return number
