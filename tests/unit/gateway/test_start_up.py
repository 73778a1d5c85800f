"""What a legacy command loads: usage texts need nothing, and a call little more than gRPC."""

import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).parents[3]
HELP = (
    "import sys\n"
    "from keyreeve_gateway.commands import run_here\n"
    "from keyreeve_gateway.tarantella.program import TARANTELLA\n"
    "assert run_here(TARANTELLA, ['help', 'array']) == 0\n"
    "print(*sys.modules)"
)


def test_usage_texts_load_neither_grpc_nor_cryptography() -> None:
    done = subprocess.run([sys.executable, "-c", HELP], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.splitlines()[-1].split())
    assert "keyreeve_gateway.dispatch" in loaded
    assert not loaded & {"grpc", "google.protobuf", "cryptography", "asyncio", "typer", "keyreeve.cli"}


def test_the_installed_commands_exist() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    ours = {name: target for name, target in scripts.items() if target.startswith("keyreeve_gateway")}
    assert "tarantella" in ours
    for target in ours.values():
        module, _, function = target.partition(":")
        assert callable(getattr(import_module(module), function))
