"""A service's settings: from a YAML file, a directory of secret files and the environment, each key with its origin.

Later sources win: default < file < secrets directory < environment. A key that no setting has is refused with the
nearest name, since a misspelled setting is one that silently does not hold. In the environment, `KEYREEVE_CA_` followed
by the key in upper case, with `__` between the levels: `KEYREEVE_CA_LISTEN__PORT=8443`; lists and maps as JSON. In the
secrets directory, one file for each key, named by it (`store.password` or `store__password`).
"""

import difflib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import UnionType
from typing import Any, ClassVar, Generic, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, SecretBytes, SecretStr, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

DEFAULT = "default"
HIDDEN = "***"

_SERVICE_LINK = re.compile(r"_SERVICE_(HOST|PORT(_[A-Z0-9_]+)?)\Z|_PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?\Z")
_SERVICE_LINK_URL = re.compile(r"(tcp|udp|sctp)://")

Key = tuple[str, ...]
Tree = dict[str, Any]


class SettingsRefused(Exception):
    """The settings are invalid; `problems` lists every reason."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class ServiceSettings(BaseSettings):
    """The base of a service's settings. The constructor reads only its arguments; see `load`."""

    model_config = SettingsConfigDict(extra="forbid", frozen=True, validate_default=True)
    RENAMED: ClassVar[Mapping[str, str]] = {}
    """Earlier names of keys at the top of a settings file, which still work there."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read arguments alone: `load` reads the other sources, so that it knows where each value came from."""
        return (init_settings,)


SettingsT = TypeVar("SettingsT", bound=ServiceSettings)


@dataclass(frozen=True, slots=True)
class Loaded(Generic[SettingsT]):
    """Settings and the origin of each value."""

    settings: SettingsT
    origins: Mapping[Key, str]
    """For each key that a source set: `file PATH`, `environment NAME` or `secret file PATH`."""


@dataclass(frozen=True, slots=True)
class SettingRow:
    """One line of `keyreeve settings`."""

    key: str
    value: str
    """As JSON; `***` for a secret."""
    origin: str
    description: str

    def as_dict(self) -> dict[str, str]:
        """The row for a JSON document."""
        return asdict(self)


def load(
    settings_class: type[SettingsT],
    file: Path | None,
    env_prefix: str,
    *,
    environment: Mapping[str, str],
    secrets_directory: Path | None = None,
) -> Loaded[SettingsT]:
    """Load the settings of a service.

    `file` and `secrets_directory` may be None but not missing. Raises `SettingsRefused` with every problem.
    """
    problems: list[str] = []
    values: Tree = {}
    origins: dict[Key, str] = {}
    model: type[BaseModel] = settings_class
    known = dict(_leaves(model))
    sources = [
        _from_file(file, settings_class.RENAMED, known, problems),
        _from_secrets(secrets_directory, known, problems),
        _from_environment(env_prefix, environment, known, problems),
    ]
    for source in sources:
        for key, (value, origin) in source.items():
            # A key may replace a whole branch (`null` where a section may be absent) or fill in under one.
            for other in [one for one in origins if one[: len(key)] == key]:
                del origins[other]
            origins[key] = origin
            _put(values, key, value)
    if problems:
        raise SettingsRefused(problems)
    try:
        settings = settings_class.model_validate(values)
    except ValidationError as invalid:
        raise SettingsRefused(_explain(invalid, origins)) from None
    return Loaded(settings, origins)


def describe(loaded: Loaded[Any]) -> list[SettingRow]:
    """Return every effective setting in order of declaration, secrets hidden."""
    return list(_rows(loaded.settings, (), loaded.origins))


def _rows(model: BaseModel, prefix: Key, origins: Mapping[Key, str]) -> Iterator[SettingRow]:
    for name, field in type(model).model_fields.items():
        key, value = (*prefix, name), getattr(model, name)
        if isinstance(value, BaseModel):
            yield from _rows(value, key, origins)
            continue
        origin = next((origins[key[:n]] for n in range(len(key), 0, -1) if key[:n] in origins), DEFAULT)
        yield SettingRow(".".join(key), _shown(value), origin, field.description or "")


def _shown(value: object) -> str:
    return json.dumps(TypeAdapter(object).dump_python(_hide(value), mode="json"))


def _hide(value: object) -> object:
    if isinstance(value, SecretStr | SecretBytes):
        return HIDDEN
    if isinstance(value, Mapping):
        return {key: _hide(one) for key, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_hide(one) for one in value]
    return value


def _leaves(model: type[BaseModel], prefix: Key = ()) -> Iterator[tuple[Key, FieldInfo]]:
    """Every key that a source may set: leaves, and nullable sections."""
    for name, field in model.model_fields.items():
        sections = _sections(field.annotation)
        if sections != [field.annotation]:
            yield (*prefix, name), field
        for section in sections:
            yield from _leaves(section, (*prefix, name))


def _sections(annotation: object) -> list[type[BaseModel]]:
    options = get_args(annotation) if get_origin(annotation) in {Union, UnionType} else (annotation,)
    return [one for one in options if isinstance(one, type) and issubclass(one, BaseModel)]


Source = dict[Key, tuple[Any, str]]


def _from_file(
    file: Path | None, renamed: Mapping[str, str], known: Mapping[Key, FieldInfo], problems: list[str]
) -> Source:
    if file is None:
        return {}
    try:
        tree = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as why:
        problems.append(f"{file} cannot be read: {' '.join(str(why).split())}")
        return {}
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        problems.append(f"{file} does not hold a map of settings")
        return {}
    current = {
        renamed.get(name, name) if renamed.get(name) not in tree else name: value for name, value in tree.items()
    }
    return _flatten(current, known, f"file {file}", problems)


def _flatten(
    tree: Mapping[object, Any], known: Mapping[Key, FieldInfo], origin: str, problems: list[str], prefix: Key = ()
) -> Source:
    sections = {key[: len(prefix) + 1] for key in known if len(key) > len(prefix) + 1}
    found: Source = {}
    for name, value in tree.items():
        key = (*prefix, str(name))
        if key in sections and isinstance(value, dict):
            found.update(_flatten(value, known, origin, problems, key))
        elif key in known:
            found[key] = (value, origin)
        elif key in sections:
            problems.append(f"{origin}: {'.'.join(key)} is a section and needs a map")
        else:
            problems.append(f"{origin}: {_unknown('.'.join(key), ['.'.join(one) for one in known])}")
    return found


def _from_environment(
    prefix: str, environment: Mapping[str, str], known: Mapping[Key, FieldInfo], problems: list[str]
) -> Source:
    names = {prefix + "__".join(key).upper(): key for key in known}
    found: Source = {}
    for name, text in environment.items():
        if not name.startswith(prefix) or _is_service_link(name, text):
            continue
        key = names.get(name)
        if key is None:
            problems.append(f"environment: {_unknown(name, list(names))}")
        else:
            found[key] = (_from_text(known[key], text), f"environment {name}")
    return found


def _is_service_link(name: str, text: str) -> bool:
    """Whether Kubernetes set the variable for a Service named keyreeve-ca."""
    return _SERVICE_LINK.search(name) is not None or (name.endswith("_PORT") and bool(_SERVICE_LINK_URL.match(text)))


def _from_secrets(directory: Path | None, known: Mapping[Key, FieldInfo], problems: list[str]) -> Source:
    if directory is None:
        return {}
    names = {join.join(key): key for key in known for join in (".", "__")}
    found: Source = {}
    try:
        entries = sorted(directory.iterdir())
        for entry in entries:
            # Kubernetes keeps the true files of a mounted secret in directories that begin with two dots.
            if entry.name.startswith(".") or not entry.is_file():
                continue
            key = names.get(entry.name.lower())
            if key is None:
                problems.append(f"secrets directory: {_unknown(entry.name, ['.'.join(one) for one in known])}")
            else:
                text = entry.read_text(encoding="utf-8").removesuffix("\n")
                found[key] = (_from_text(known[key], text), f"secret file {entry}")
    except (OSError, UnicodeDecodeError) as why:
        problems.append(f"secrets directory {directory} cannot be read: {why}")
    return found


def _from_text(field: FieldInfo, text: str) -> object:
    """Parse JSON where the setting is a list, a map or null; pydantic converts other text."""
    try:
        value: object = json.loads(text)
    except ValueError:
        return text
    if isinstance(value, list | dict) or (value is None and type(None) in get_args(field.annotation)):
        return value
    return text


def _put(tree: Tree, key: Key, value: object) -> None:
    for part in key[:-1]:
        branch = tree.get(part)
        if not isinstance(branch, dict):
            branch = tree[part] = {}
        tree = branch
    tree[key[-1]] = value


def _unknown(name: str, candidates: list[str]) -> str:
    nearest = difflib.get_close_matches(name, candidates, n=1, cutoff=0.0)
    return f"there is no setting {name}" + (f"; the nearest is {nearest[0]}" if nearest else "")


def _explain(invalid: ValidationError, origins: Mapping[Key, str]) -> list[str]:
    """One line per error: the key, the value's origin, and the problem, without the value."""
    lines = []
    for error in invalid.errors(include_input=False, include_url=False, include_context=False):
        key = tuple(str(part) for part in error["loc"])
        origin = next((origins[key[:n]] for n in range(len(key), 0, -1) if key[:n] in origins), DEFAULT)
        lines.append(f"{'.'.join(key) or 'settings'} ({origin}): {error['msg']}")
    return lines
