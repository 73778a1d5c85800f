"""The context file: addresses and roots of a control plane, and an identity.

The file is one JSON object that a client in any language can read:

    {"trust_domain": "example.test", "endpoints": {"ca": ["10.0.0.1:7443", "10.0.0.2:7443"]},
     "http": "http://10.0.0.1:7480", "bundle": "control.pem", "estate_bundle": "estate.pem", "certificate": "me.pem",
     "key": "me.key"}

`endpoints` lists the addresses of each service; a string stands for a list of one. The last four values are paths of PEM
files, relative to the directory of the context file unless absolute.
"""

import json
import os
import re
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self, cast

from keyreeve.errors import ContextInvalid
from keyreeve.files import write_atomically
from keyreeve.identity import is_trust_domain

ENVIRONMENT_VARIABLE = "KEYREEVE_CONTEXT"
DEFAULT_LOCATION = Path(".keyreeve/context.json")
"""Searched for in the working directory and then in each parent. A file found there must belong to the caller or to root:
parents may be shared directories, and the author of a context decides which services are trusted and called."""

_PATHS = ("bundle", "estate_bundle", "certificate", "key")
_REQUIRED = ("trust_domain", "endpoints", *_PATHS)
_KEYS = (*_REQUIRED, "http")
_SERVICE = re.compile(r"[a-z][a-z0-9-]{0,62}")
"""The name becomes the first label of the DNS name that the service's certificate must bear."""


@dataclass(frozen=True, slots=True)
class Context:
    """Addresses of a control plane, roots to trust, and the identity to call with.

    The files are read when they are used.
    """

    trust_domain: str
    endpoints: Mapping[str, Sequence[str]]
    """Addresses by service, such as `{"ca": ["10.0.0.1:7443", "[2001:db8::1]:7443"]}`; each is `host:port`.

    Calls are spread over the addresses of a service. A string in place of a list counts as a list of one.
    """
    bundle: Path
    """Roots of the control hierarchy, which issues the services' certificates."""
    estate_bundle: Path
    """Roots of the estate hierarchy, for relying parties of the certificates issued to servers and clients."""
    certificate: Path
    """The caller's certificate, followed by its chain without the root."""
    key: Path
    """The private key of `certificate`."""
    http: str = ""
    """Base URL of the plain-HTTP listener; empty when there is none."""
    path: Path | None = field(default=None, compare=False)
    """The file from which the context was loaded."""

    def __post_init__(self) -> None:
        if not is_trust_domain(self.trust_domain):
            raise ContextInvalid(
                f"{self.trust_domain!r} is not a trust domain: lower-case DNS labels", metadata=_at(self.path)
            )
        endpoints = {service: _as_tuple(addresses) for service, addresses in self.endpoints.items()}
        for service, addresses in endpoints.items():
            if not _SERVICE.fullmatch(service):
                raise ContextInvalid(
                    f"{service!r} is not the name of a service: lower-case letters, digits and '-'",
                    metadata=_at(self.path),
                )
            if not addresses:
                raise ContextInvalid(f"{service!r} has an empty list of addresses", metadata=_at(self.path))
            for address in addresses:
                if not _is_address(address):
                    raise ContextInvalid(
                        f"the endpoint of {service!r} is {address!r}, which is not host:port", metadata=_at(self.path)
                    )
        object.__setattr__(self, "endpoints", endpoints)

    @classmethod
    def load(cls, path: str | os.PathLike[str] | None = None) -> Self:
        """Read the context file.

        It is `path`, or the one that KEYREEVE_CONTEXT names, or the nearest in a default location. Of a directory it is
        `context.json` in it, or in its `.keyreeve`.

        Raises `keyreeve.errors.ContextInvalid` when there is none, it is malformed, or it was found in a default location
        and belongs to another user.
        """
        file, found = _locate(path)
        try:
            content: object = json.loads(file.read_bytes())
        except FileNotFoundError:
            raise ContextInvalid(f"there is no context file at {file}", metadata=_at(file)) from None
        except OSError as failure:
            raise ContextInvalid(f"cannot read {file}: {failure.strerror}", metadata=_at(file)) from None
        except ValueError as failure:  # UnicodeDecodeError is one too
            raise ContextInvalid(f"{file} is not JSON: {failure}", metadata=_at(file)) from None
        context = cls._from_json(content, file)
        if found:
            _refuse_foreign_files(context)
        return context

    @classmethod
    def _from_json(cls, content: object, file: Path) -> Self:
        values = _check_keys(content, file)
        for key in ("trust_domain", "http", *_PATHS):
            if not isinstance(values.get(key, ""), str):
                raise ContextInvalid(f"{key!r} in {file} is not a string", metadata=_at(file))
        endpoints = values["endpoints"]
        if not isinstance(endpoints, dict) or not all(map(_are_addresses, endpoints.values())):
            raise ContextInvalid(f"'endpoints' in {file} does not map services to lists of strings", metadata=_at(file))
        directory = file.resolve().parent
        paths = {key: directory / cast("str", values[key]) for key in _PATHS}
        return cls(
            trust_domain=cast("str", values["trust_domain"]),
            endpoints=cast("dict[str, str | list[str]]", endpoints),
            http=cast("str", values.get("http", "")),
            path=file,
            **paths,
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the context file.

        Paths below its directory become relative, so that the directory can be moved.

        Raises `OSError`.
        """
        file = Path(path)
        directory = file.resolve().parent
        content = {
            "trust_domain": self.trust_domain,
            "endpoints": {service: list(addresses) for service, addresses in self.endpoints.items()},
            "http": self.http,
            **{key: _relative(cast("Path", getattr(self, key)), directory) for key in _PATHS},
        }
        write_atomically(file, (json.dumps(content, indent=2) + "\n").encode())

    def addresses(self, service: str) -> tuple[str, ...]:
        """The addresses of a service.

        Raises `keyreeve.errors.ContextInvalid` when the context names none.
        """
        try:
            return tuple(self.endpoints[service])
        except KeyError:
            known = ", ".join(self.endpoints) or "no service at all"
            raise ContextInvalid(
                f"the context names no address of {service!r}; it knows {known}", metadata=_at(self.path)
            ) from None

    def endpoint(self, service: str) -> str:
        """The first address of a service, for a program that dials one instance of it.

        Raises `ContextInvalid`.
        """
        return self.addresses(service)[0]


def _locate(path: str | os.PathLike[str] | None) -> tuple[Path, bool]:
    """The context file, and whether it was found rather than named."""
    if path is not None:
        return _file_at(Path(path)), False
    if named := os.environ.get(ENVIRONMENT_VARIABLE):
        return _file_at(Path(named)), False
    here = Path.cwd()
    for directory in (here, *here.parents):
        if os.path.lexists(candidate := directory / DEFAULT_LOCATION) or _is_closed(candidate.parent):
            _require_own(candidate)
            return candidate, True
    raise ContextInvalid(f"there is no {DEFAULT_LOCATION} in {here} or above it, and {ENVIRONMENT_VARIABLE} is not set")


def _file_at(path: Path) -> Path:
    """The context file at a path: of a directory its own, or that of the control plane in it."""
    if not path.is_dir():
        return path
    below = path / DEFAULT_LOCATION
    return below if below.exists() else path / DEFAULT_LOCATION.name


def _refuse_foreign_files(context: Context) -> None:
    """Raise `ContextInvalid` when others could have chosen what a context that was found trusts, or read its key."""
    for file in (context.bundle, context.estate_bundle, context.certificate, context.key):
        if why := why_not_own(file):
            raise ContextInvalid(f"{why}, who can change whom you trust or call as", metadata=_at(context.path))
    try:
        mode = stat.S_IMODE(context.key.stat().st_mode)
    except OSError:
        return  # it is reported when it is used
    if mode & 0o077:
        raise ContextInvalid(
            f"the key {context.key} can be read or written by other users (mode {mode:04o}): chmod 600 {context.key}",
            metadata=_at(context.path),
        )


def _is_closed(directory: Path) -> bool:
    """Whether a directory exists that this process may not search."""
    return directory.is_dir() and not os.access(directory, os.X_OK)


def _require_own(file: Path) -> None:
    for place in (file.parent, file):
        if why := why_not_own(place):
            raise ContextInvalid(
                f"{file} was found, but {why}, who can change which services you trust. To use it, name it: "
                f"`--context {file}` or {ENVIRONMENT_VARIABLE}={file}",
                metadata=_at(file),
            )


def why_not_own(path: Path) -> str | None:
    """Say why other users can change a path.

    None when only this process's user or root can, or it does not exist.

    A symbolic link and its target are both checked.
    """
    try:
        link, target = path.lstat(), path.stat()
    except FileNotFoundError:
        return None
    except OSError as failure:
        return f"{path} cannot be examined ({failure.strerror})"
    for found in (link, target):
        if found.st_uid not in (0, os.geteuid()):
            return f"{path} belongs to {_user_name(found.st_uid)}"
    if target.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"{path} can be written by other users (mode {stat.S_IMODE(target.st_mode):04o})"
    return None


def _user_name(uid: int) -> str:
    import pwd

    try:
        return f"{pwd.getpwuid(uid).pw_name} (user {uid})"
    except KeyError:
        return f"user {uid}"


def _check_keys(content: object, file: Path) -> dict[str, object]:
    if not isinstance(content, dict):
        raise ContextInvalid(f"{file} does not contain a JSON object", metadata=_at(file))
    for key in content:
        if key not in _KEYS:
            from difflib import get_close_matches

            near = get_close_matches(key, _KEYS, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ContextInvalid(f"{file} contains an unknown key {key!r}{hint}", metadata=_at(file))
    if missing := [key for key in _REQUIRED if key not in content]:
        raise ContextInvalid(f"{file} lacks {', '.join(map(repr, missing))}", metadata=_at(file))
    return content


def _as_tuple(addresses: Sequence[str]) -> tuple[str, ...]:
    return (addresses,) if isinstance(addresses, str) else tuple(addresses)


def _are_addresses(value: object) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(each, str) for each in value))


def _is_address(text: str) -> bool:
    host, colon, port = text.rpartition(":")
    if ":" in host and not (host.startswith("[") and host.endswith("]")):
        return False  # an IPv6 address without brackets: its last group is not a port
    return bool(host and colon) and port.isascii() and port.isdigit() and 0 < int(port) < 65536


def _relative(path: Path, directory: Path) -> str:
    absolute = path.absolute()
    return str(absolute.relative_to(directory)) if absolute.is_relative_to(directory) else str(absolute)


def _at(path: Path | None) -> dict[str, str]:
    return {} if path is None else {"path": str(path)}
