"""Settings of the legacy commands: what no manual documents, and which server and array a command is for."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from keyreeve.errors import ContextInvalid

VARIABLE = "KEYREEVE_LEGACY_SETTINGS"
FILE_NAME = "legacy.toml"
"""Read from the directory of the context file, unless the environment names another file."""


@dataclass(frozen=True, slots=True)
class LegacySettings:
    """Values of `legacy.toml`; all are optional."""

    server: str = ""
    """Peer DNS name of "this server"; empty: that of the member whose certificate is used, or this host's name."""
    array: str = ""
    """The array whose password cache and settings the commands mean; empty: that of this server."""
    failed_code: int = 1
    """Exit code of a command that has failed. No manual names any."""
    usage_code: int = 2
    """Exit code of a command that is not of the grammar. No manual names any."""
    password_prompt: str = "Password: "  # noqa: S105 - a prompt
    """The question of `passcache new` and `edit`."""
    unlock_prompt: str = "Enter pass phrase for {file}: "
    """The question of `pki unlock`; `{file}` stands for the name of the file."""
    pkcs12_prompt: str = "Enter the password of {file}: "
    """The question of `pki pkcs12-to-ssh`."""
    replace_prompt: str = "Do you want to replace the key {file}? (Y/n) "
    """The question of `pki` commands that replace a key in use; only a capital `Y` does."""
    clean_prompt: str = "Remove {server} from its array? (yes/no) "
    """The question of `array clean`; only `yes`, in any case of letters, does."""
    accept_prompt: str = "Do you want to accept this certificate? (yes/no) "
    """The question of `array join`."""
    accept_answer: str = "yes"
    """The answer that accepts, in any case of letters."""
    silent_seconds: int = 120
    """After how long without a report `status` says that a server does not respond."""
    skew_seconds: int = 60
    """From which difference on `status` says that a server's clock is wrong."""


def load_settings(context_directory: Path | None, environment: Mapping[str, str] = os.environ) -> LegacySettings:
    """Read the settings: the file, and over it KEYREEVE_SERVER and KEYREEVE_ARRAY.

    Raises `ContextInvalid`.
    """
    named = environment.get(VARIABLE)
    file = Path(named) if named else context_directory and context_directory / FILE_NAME
    settings = _read(file, must_exist=bool(named)) if file else LegacySettings()
    return replace(
        settings,
        server=environment.get("KEYREEVE_SERVER") or settings.server,
        array=environment.get("KEYREEVE_ARRAY") or settings.array,
    )


def _read(file: Path, *, must_exist: bool) -> LegacySettings:
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        if must_exist:
            raise ContextInvalid(f"there is no file {file}", metadata={"path": str(file)}) from None
        return LegacySettings()
    except OSError as problem:
        raise ContextInvalid(f"cannot read {file}: {problem.strerror}", metadata={"path": str(file)}) from None
    import tomllib

    try:
        content: dict[str, Any] = tomllib.loads(data.decode())
    except ValueError as problem:
        raise ContextInvalid(f"{file} is not TOML: {problem}", metadata={"path": str(file)}) from None
    known = {one.name: one.type for one in fields(LegacySettings)}
    for name, value in content.items():
        if name not in known:
            raise ContextInvalid(f"{file} contains an unknown key {name!r}", metadata={"path": str(file)})
        if type(value) is not known[name]:
            raise ContextInvalid(f"{name!r} in {file} has a value of the wrong type", metadata={"path": str(file)})
    return LegacySettings(**content)
