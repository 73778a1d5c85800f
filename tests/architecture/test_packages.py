"""Rules for the structure of the repository, in addition to the import rules of import-linter."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("sdk", "services", "tests", "tools")
FORBIDDEN_NAMES = {"utils", "util", "common", "helpers", "helper", "misc", "base"}
LONGEST = 500
"""Lines; past about 400 a file usually holds a second idea."""
LISTS = {"sdk/keyreeve/errors.py"}
"""Files that are one long list of the same thing."""
FIXTURES = ROOT / "tests" / "fixtures"
"""Programs that made what is stored beside them: run once, by hand, with an older release."""
REAL_WAITS = {
    "tests/attacks/test_http2_attacks.py": "an attack goes on for a while, and what it takes is measured meanwhile",
    "tests/integration/ca/test_idle_control_plane.py": "what happens while nothing does is counted for a while",
    "tests/integration/chassis/rpc/test_identity_over_tls.py": "what goes on for a moment is seen while it does",
    "tests/integration/chassis/changes/test_changes_on_postgresql.py": "that nothing is read takes time to see",
}
"""Tests of which some sleep, and why."""


def sources() -> list[Path]:
    generated = re.compile(r"_pb2(_grpc)?\.pyi?$")
    return [
        path for room in PACKAGES for path in sorted((ROOT / room).rglob("*.py")) if not generated.search(path.name)
    ]


def test_the_fork_server_of_the_ca_does_not_load_large_libraries_that_its_processes_do_not_use() -> None:
    program = (
        "import sys, importlib\n"
        "from keyreeve_ca.__main__ import PROGRAM\n"
        "from keyreeve_chassis.telemetry import metrics\n"
        "for name in PROGRAM.imported: importlib.import_module(name)\n"
        "print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "keyreeve_ca.worker" in loaded
    # In MiB of each process: 10, 11, 5 and 9.
    assert not loaded & {"grpc", "alembic", "rich", "pkilint"}


def test_packages_import_only_what_they_may() -> None:
    lint = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_what_manages_the_processes_of_the_ca_loads_little() -> None:
    """The manager process, and the program that `keyreeve up` waits for, live beside processes that load everything."""
    heavy = {"OpenSSL", "alembic", "cryptography.x509", "grpc", "pkilint", "psycopg", "sqlalchemy"}
    light = ("keyreeve_ca.__main__", "keyreeve_ca.local_admin", "keyreeve_ca.settings", "keyreeve_ca.spec")
    program = f"import sys, {', '.join(light)}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = done.stdout.split()
    assert "keyreeve_ca.settings" in loaded
    assert heavy.intersection(loaded) == set()


def test_modules_are_named_after_what_they_do() -> None:
    assert [
        str(path) for path in sources() if path.stem in FORBIDDEN_NAMES or path.parent.name in FORBIDDEN_NAMES
    ] == []


def test_a_file_holds_one_idea() -> None:
    long = {
        str(path.relative_to(ROOT)): len(path.read_text().splitlines())
        for path in sources()
        if not path.is_relative_to(FIXTURES)
    }
    assert {name: lines for name, lines in long.items() if lines > LONGEST and name not in LISTS} == {}


def test_every_module_says_what_it_is() -> None:
    silent = []
    for path in sources():
        text = path.read_text()
        of_the_product = path.relative_to(ROOT).parts[0] in {"sdk", "services"}
        if of_the_product and text.strip() and ast.get_docstring(ast.parse(text)) is None:
            silent.append(str(path.relative_to(ROOT)))
    assert silent == []


@pytest.mark.parametrize("word", [r"\bTODO\b", r"\bFIXME\b", r"\bXXX\b", r"#\s*type:\s*ignore\s*$", r"#\s*noqa\s*$"])
def test_nothing_is_left_for_later_or_silenced_wholesale(word: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in sources()
        if path != Path(__file__)
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if re.search(word, line)
    ]
    assert found == []


def test_what_code_and_documents_refer_to_exists() -> None:
    missing = []
    # Its texts name documents that are not there.
    named_by = [path for path in sources() if path.name != "test_check_words.py"]
    for path in [*named_by, *ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("proto/**/*.proto")]:
        text = path.read_text()
        links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text) if path.suffix == ".md" else []
        named = {ROOT / name for name in re.findall(r"\bdocs/[\w/-]+\.md\b", text)} | {
            path.parent / link for link in links
        }
        missing += [f"{path.relative_to(ROOT)}: {name}" for name in named if not name.exists()]
    assert missing == []


def test_tests_wait_for_what_they_need_and_do_not_sleep() -> None:
    sleeping, allowed = [], set()
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        text, name = path.read_text(), str(path.relative_to(ROOT))
        if "support.virtual_time" in text:  # where waiting takes no time
            continue
        if "sleep" not in text:  # parsing takes 100 times as long
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in {"time.sleep", "asyncio.sleep"}:
                argument = ast.unparse(node.args[0]) if node.args else ""
                if argument == "0":  # asyncio.sleep(0) gives way and waits for nothing
                    continue
                if name in REAL_WAITS:
                    allowed.add(name)
                else:
                    sleeping.append(f"{name}:{node.lineno}")
    assert sleeping == []
    assert allowed == set(REAL_WAITS), "each of them still sleeps"


def test_grpcio_serves_nothing_but_the_peer_port_and_the_differential_test() -> None:
    files = [path for room in (*PACKAGES, "agent", "gateway", "bench") for path in (ROOT / room).rglob("*.py")]
    serving = [
        str(path.relative_to(ROOT))
        for path, text in ((path, path.read_text()) for path in files)
        if "aio.server" in text
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "grpc.aio.server"
    ]
    assert sorted(serving) == [
        "agent/keyreeve_agent/peers/server.py",  # docs/adr/0024-grpcio-server-on-the-peer-port.md
        "tests/integration/chassis/rpc/test_against_grpc_aio.py",
    ]
