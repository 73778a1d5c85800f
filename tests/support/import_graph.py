"""What modules of this repository import, read from their source: no module is imported for it."""

import ast
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = {
    "keyreeve_agent": ROOT / "agent",
    "keyreeve_gateway": ROOT / "gateway",
    "keyreeve": ROOT / "sdk",
    "keyreeve_chassis": ROOT / "services/chassis",
    "keyreeve_ca": ROOT / "services/ca",
    "keyreeve_credentials": ROOT / "services/credentials",
    "keyreeve_membership": ROOT / "services/membership",
}

Graph = Mapping[str, frozenset[str]]


@cache
def files_of(package: str) -> Mapping[str, Path]:
    """The modules of a package by name, without those that are generated and without packages' own `__init__`."""
    source = SOURCES[package]
    return {
        ".".join(path.relative_to(source).with_suffix("").parts): path
        for path in sorted((source / package).rglob("*.py"))
        if path.stem != "__init__" and "_pb2" not in path.stem
    }


def imported_names(path: Path) -> set[str]:
    """Every name that a file imports, dotted; where it is imported does not matter, nor whether only for types."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@cache
def graph_of(package: str) -> Graph:
    """Which modules of the package each of its modules imports."""
    files = files_of(package)
    return {module: frozenset(_modules(imported_names(path), files)) for module, path in files.items()}


def _modules(names: Iterable[str], known: Iterable[str]) -> set[str]:
    """The modules that are meant: `from module import thing` names a thing in it."""
    return {name for imported in names for name in (imported, imported.rpartition(".")[0]) if name in known}


def by_feature(graph: Graph) -> Graph:
    """The same between top-level modules and folders of the package."""
    found: dict[str, set[str]] = {}
    for module, imported in graph.items():
        there = found.setdefault(_top(module), set())
        there |= {_top(one) for one in imported} - {_top(module)}
    return {name: frozenset(imported) for name, imported in found.items()}


def _top(module: str) -> str:
    return module.split(".")[1]


def longest_path(graph: Graph) -> list[frozenset[str]]:
    """The longest path of imports, from the importing end; nodes that import each other in a circle count as one."""
    reached: dict[str, set[str]] = {node: set() for node in graph}
    for node, below in reached.items():
        waiting = [node]
        while waiting:
            new = graph[waiting.pop()] - below
            below.update(new)
            waiting += new
    circles = {node: frozenset({node} | {one for one in reached[node] if node in reached[one]}) for node in graph}

    @cache
    def path_from(circle: frozenset[str]) -> list[frozenset[str]]:
        after = {circles[one] for node in circle for one in graph[node]} - {circle}
        return [circle, *max((path_from(one) for one in after), key=len, default=[])]

    return max((path_from(circle) for circle in circles.values()), key=len)
