"""The public API: fast to import, documented, and the same in both forms."""

import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import keyreeve

ROOT = Path(__file__).resolve().parents[3]
MODULES = [
    "keyreeve",
    "keyreeve.aio",
    "keyreeve.context",
    "keyreeve.channel_credentials",
    "keyreeve.errors",
    "keyreeve.files",
    "keyreeve.identity",
    "keyreeve.keys",
    "keyreeve.plaintext",
    "keyreeve.request_ids",
    "keyreeve.retry",
    "keyreeve.status",
    "keyreeve.targets",
    "keyreeve.testing",
    "keyreeve.testing.fixtures",
    "keyreeve.values",
    "keyreeve.vault_values",
    "keyreeve.vault_wire",
    "keyreeve.wire",
    *(
        f"keyreeve.{form}.{path.stem}"
        for form in ("_async", "_blocking")
        for path in sorted((ROOT / "sdk/keyreeve/_async").glob("[a-z]*.py"))
    ),
]


def loaded_by(code: str) -> set[str]:
    program = f"{code}\nimport sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    return set(done.stdout.split())


def test_importing_the_package_loads_nothing_heavy() -> None:
    loaded = loaded_by("import keyreeve")
    assert not loaded & {"grpc", "google.protobuf", "cryptography", "typing", "asyncio", "json"}


@pytest.mark.parametrize("module", ["errors", "identity", "values", "retry", "context", "request_ids"])
def test_pure_modules_never_load_grpc_or_cryptography(module: str) -> None:
    loaded = loaded_by(f"import keyreeve.{module}")
    assert not loaded & {"grpc", "google.protobuf", "cryptography", "asyncio"}


def test_the_clients_need_nothing_beyond_the_base_install() -> None:
    loaded = loaded_by("import keyreeve, keyreeve.aio, keyreeve.status, keyreeve.testing\nkeyreeve.Client")
    assert not loaded & {"pydantic", "typer", "yaml", "rich", "sqlalchemy", "keyreeve_chassis", "keyreeve_ca", "pytest"}


def test_every_public_name_can_be_had_and_is_listed() -> None:
    for name in keyreeve.__all__:
        assert getattr(keyreeve, name) is not None
    assert dir(keyreeve) == sorted(keyreeve.__all__)
    with pytest.raises(AttributeError, match="nothing_of_the_sort"):
        keyreeve.nothing_of_the_sort  # type: ignore[attr-defined]  # noqa: B018


def test_what_type_checkers_see_is_what_there_is() -> None:
    source = (ROOT / "sdk/keyreeve/__init__.py").read_text()
    seen = {line.rpartition(" as ")[2] for line in source.splitlines() if line.startswith("    from keyreeve")}
    assert seen == set(keyreeve.__all__)


@pytest.mark.parametrize("name", MODULES)
def test_every_public_name_is_documented(name: str) -> None:
    module = importlib.import_module(name)
    assert inspect.getdoc(module), name
    missing = []
    for member, value in vars(module).items():
        if member.startswith("_") or getattr(value, "__module__", None) != name:
            continue
        if inspect.isfunction(value) and not value.__doc__:
            missing.append(member)
        if inspect.isclass(value):
            if not value.__doc__ or value.__doc__.startswith(f"{member}("):  # a dataclass writes its own
                missing.append(member)
            for part, inner in vars(value).items():
                function = inner.fget if isinstance(inner, property) else getattr(inner, "__func__", inner)
                if inspect.isfunction(function) and not part.startswith("_") and not function.__doc__:
                    missing.append(f"{member}.{part}")
    assert missing == []


def test_the_blocking_clients_are_what_the_asyncio_clients_generate() -> None:
    tool = ROOT / "tools/generate-blocking"
    done = subprocess.run([sys.executable, tool, "--check"], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["authorities", "calls", "certificates", "client", "profiles", "rotating", "services"])
def test_nothing_asynchronous_is_left_in_the_blocking_clients(name: str) -> None:
    text = (ROOT / f"sdk/keyreeve/_blocking/{name}.py").read_text()
    code = "\n".join(line for line in text.splitlines()[1:])
    assert not [word for word in ("await ", "async def", "async with", "async for", "Async", "_async") if word in code]
